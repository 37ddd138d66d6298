"""PyTorch: exported programs, TorchScript, and weights with the kit's own code.

May import: adapters, adapters.pickles.
Imported by: adapters, adapters.huggingface, adapters.mlflow.
"""
