"""Large modules, imported by the tests that use them: every process of a run collects all tests, and runs some."""

from importlib import import_module
from typing import Any


class Lazy:
    """A module that is imported when something of it is first asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(import_module(self._name), attribute)
