"""Pickle and joblib files, read through an allow-list of names; nothing else that a file names is imported or called.

May import: adapters.
Imported by: adapters, adapters.pytorch, adapters.sklearn.
"""
