"""How many random cases a test tries: a few in every run, more in CI (`make campaigns`), and with `--long` for hours."""

from collections.abc import Callable

Campaign = Callable[[int, int, int], int]
"""The fixture `campaign`: returns the one of these three numbers that was asked for."""
