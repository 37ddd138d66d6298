"""Promises, and whether what was measured keeps them."""

from __future__ import annotations


class Verdicts:
    """Prints each promise, and remembers if one was not kept."""

    broken = False

    def least(self, what: str, measured: float, wanted: float) -> None:
        """Wants at least `wanted`."""
        self._judge(what, measured, f"at least {wanted:g}", measured >= wanted)

    def most(self, what: str, measured: float, wanted: float) -> None:
        """Wants at most `wanted`."""
        self._judge(what, measured, f"at most {wanted:g}", measured <= wanted)

    def _judge(self, what: str, measured: float, wanted: str, kept: bool) -> None:
        print(f"  {what:36}{measured:9.2f}  wanted {wanted:14} {'kept' if kept else 'NOT KEPT'}", flush=True)
        self.broken = self.broken or not kept
