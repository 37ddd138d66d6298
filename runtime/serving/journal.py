"""The log as the serving wing sees it: `runtime.log.Log`, or anything shaped like it."""

from __future__ import annotations

from typing import Protocol


class Log(Protocol):
    """Events are `noun.verb` in the past with keys; one call costs microseconds and never blocks."""

    def debug(self, event: str, /, **fields: object) -> None:
        """For those who look for something."""

    def info(self, event: str, /, **fields: object) -> None:
        """The ordinary course of things."""

    def warning(self, event: str, /, **fields: object) -> None:
        """Something a person may want to change."""

    def error(self, event: str, /, **fields: object) -> None:
        """Something a person has to look at."""
