"""ONNX models through ONNX Runtime: reads the file, checks what it may use, opens a session.

May import: adapters.
Imported by: adapters, adapters.mlflow.
"""
