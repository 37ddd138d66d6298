"""From a reference to a folder of verified files. Knows nothing of HTTP serving, numpy or frameworks.

Every start waits for what `pull` imports. Plain values in there are named tuples (a frozen dataclass takes 0.3 ms to
make, six times as long, and stands where something is checked or compared otherwise); patterns are compiled when used.
"""
