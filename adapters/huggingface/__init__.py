"""Hugging Face folders: a model of `transformers` with its tokenizer, text in, one of a few tasks.

May import: adapters, adapters.pytorch.
Imported by: adapters.
"""
