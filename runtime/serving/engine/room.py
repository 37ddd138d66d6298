"""What requests in flight may take together, in rows or in bytes."""

from typing import Final

_SMALL: Final = 64
"""A request that takes at most this part of the limit is small."""
_SHARE: Final = 8
"""What large requests leave to small ones: this part of the limit, beyond it."""


class Room:
    """Counts what requests take. One that is alone may take more than `most`, and small ones are let in beside it."""

    __slots__ = ("_small", "most", "taken")

    def __init__(self, most: int) -> None:
        self.most, self.taken = most, 0
        self._small = 0

    def take(self, size: int) -> bool:
        """Counts a request. Returns False if there is no room for it."""
        small = self._is_small(size)
        if self.taken and self.taken + size > self.most and not (small and (self._small + size) * _SHARE <= self.most):
            return False
        self.taken += size
        self._small += size if small else 0
        return True

    def free(self, size: int) -> None:
        """Counts a request no longer."""
        self.taken -= size
        self._small -= size if self._is_small(size) else 0

    def _is_small(self, size: int) -> bool:
        return size * _SMALL <= self.most
