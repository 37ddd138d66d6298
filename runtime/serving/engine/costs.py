"""What a prediction of some input size takes, learnt from those that ran: is it cheap enough for the event loop?

A thread hop costs a tenth of a millisecond, more than a small model; a large one must not hold the loop. Sizes are
powers of two of the inputs' bytes. An unknown size runs in a thread until a few calls have shown what it takes. A size
that turned out slow has to show itself cheap over more and more calls before it may hold the loop again.
"""

from math import inf
from time import monotonic

_WEIGHT = 0.0625
_CLIP = 4.0
"""One call counts as at most this many times the limit: a busy machine delays any call by a few milliseconds."""
_HOLDING_SECONDS = 0.02
"""A call this long was not just delayed; it counts in full."""
_FIRST_PROOF, _LONGEST_PROOF = 4, 64
_FORGET_SECONDS = 10.0
"""A size that was cheap for this long and turns out slow starts with the first proof again."""
_SIZES = 64
_JOINS_SECONDS = 0.00003
"""Where calls may be joined, one that takes longer than this gains from it: joining costs 20 us."""


class Costs:
    """Estimates in seconds, per size."""

    def __init__(self, inline_seconds: float, alone_seconds: float = 0.0) -> None:
        self._limit = self._cheap = inline_seconds
        self._alone, self._since = alone_seconds, [0.0] * _SIZES
        self._expected, self._least = [inf] * _SIZES, [inf] * _SIZES
        self._proof, self._left = [_FIRST_PROOF] * _SIZES, [_FIRST_PROOF] * _SIZES

    def cheap(self, size: int) -> bool:
        """Returns True if a call of this size (bit length of its bytes) is expected to be short enough for the loop,
        and too short to gain from a batch."""
        return self._expected[size] < self._cheap

    def short(self, size: int) -> bool:
        """Returns True if a call of this size is expected to be short enough for the loop."""
        return self._expected[size] < self._limit

    def may_join(self) -> None:
        """Notes that calls may be joined."""
        self._cheap = min(self._limit, _JOINS_SECONDS)

    def bearable(self, size: int) -> bool:
        """Returns True if a call of this size may hold the loop while no other request waits."""
        return self._expected[size] < self._alone

    def ran_alone(self, size: int, seconds: float) -> None:
        """Notes what a call took that held the loop because no other request waited."""
        if not self.held_loop(size, seconds):
            self.ran_in_thread(size, seconds)

    def held_loop(self, size: int, seconds: float) -> bool:
        """Notes how long the loop was held. Returns True if that was too long: calls run in a thread until several
        there were short."""
        too_long = seconds >= max(self._alone, _HOLDING_SECONDS)
        if too_long:
            self._expected[size] = seconds
            self._left[size], self._least[size] = self._proof[size], inf
        return too_long

    def ran_inline(self, size: int, seconds: float) -> None:
        """Notes what a call on the event loop took."""
        expected = self._expected[size]
        if seconds < _HOLDING_SECONDS:
            seconds = min(seconds, self._limit * _CLIP)
        expected += (seconds - expected) * _WEIGHT
        self._expected[size] = expected
        if expected >= self._limit:
            forgotten = monotonic() - self._since[size] > _FORGET_SECONDS
            self._proof[size] = _FIRST_PROOF if forgotten else min(self._proof[size] * 2, _LONGEST_PROOF)
            self._left[size], self._least[size] = self._proof[size], inf

    def ran_in_thread(self, size: int, seconds: float) -> None:
        """Notes what a call in a thread took. The least of several counts: any may have waited for the GIL."""
        self._least[size] = min(self._least[size], seconds)
        self._left[size] -= 1
        if self._left[size] <= 0:
            self._expected[size], self._since[size] = self._least[size], monotonic()
            self._left[size], self._least[size] = self._proof[size], inf

    def ran_joined(self, size: int, seconds: float) -> None:
        """Notes what several calls took together. A short time says that one of them is short, a long one nothing."""
        if seconds < self._limit <= self._expected[size]:
            self.ran_in_thread(size, seconds)

    def seed(self, size: int, seconds: float) -> None:
        """Notes what a warm-up call took; smaller inputs are taken to cost no more."""
        for smaller in range(size + 1):
            self._expected[smaller] = min(self._expected[smaller], seconds)
