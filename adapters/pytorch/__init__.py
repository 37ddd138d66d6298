"""PyTorch: exported programs, TorchScript, weights with the kit's code.

May import: adapters, adapters.pickles.
"""
