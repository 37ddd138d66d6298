"""Reads pickles through an allow-list; runs nothing that a file names beyond it.

May import: adapters.
"""
