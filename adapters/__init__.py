"""Adapters: from the verified files of a kit to a `Model`. Importing this package imports no framework and no numpy."""

from adapters.choose import ADAPTERS, choose, guess, load

__all__ = ["ADAPTERS", "choose", "guess", "load"]
