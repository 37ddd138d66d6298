"""Hugging Face folders: a model of `transformers` with its tokenizer or image processor, one of a few tasks.

May import: adapters, adapters.pytorch.
Imported by: adapters, adapters.mlflow.
"""
