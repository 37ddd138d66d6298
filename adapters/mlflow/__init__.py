"""MLflow folders: `MLmodel` says which file is the model and what it takes; the adapter of its flavour loads it.

May import: adapters, adapters.boosted, adapters.huggingface.adapter, adapters.onnx, adapters.pytorch, adapters.sklearn.
Imported by: adapters.
"""
