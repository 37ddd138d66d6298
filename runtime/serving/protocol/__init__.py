"""The Open Inference Protocol on the wire: bytes to named arrays and back, pure."""
