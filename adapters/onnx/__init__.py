"""ONNX models through onnxruntime.

May import: adapters.
"""
