"""What protocols share, and a folder for each: bytes to named arrays and back. Pure.

May import: adapters, runtime, runtime.serving.
"""
