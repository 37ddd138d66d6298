"""The version of the runtime, by itself: the public names of `runtime` import all the rest."""

__version__ = "0.1.0"
