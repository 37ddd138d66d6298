"""Adapters: from the verified files of a kit to a `Model`, a folder for each framework or family of them.

Importing this package imports no framework and no numpy. A further framework is a folder with an `ADAPTER`, listed in
`choose.ADAPTERS`, or a package of its own: docs/writing-an-adapter.md.
"""

from adapters.choose import ADAPTERS, choose, guess, load

__all__ = ["ADAPTERS", "choose", "guess", "load"]
