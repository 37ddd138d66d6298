"""Requests in hand, by fingerprint: if a worker dies with one, no worker runs the same request again for a time.

A fingerprint stands on the board from before the request is read until it is answered. One that was answered before is
no suspect, and costs nothing but its hash. Python's hash of bytes is SipHash with a key; all workers of a server have
the same (`PYTHONHASHSEED`), and no client knows it, so no client can have another's request refused.
"""

from runtime.errors import Poisoned
from runtime.link.board import IN_HAND, Board, Signs
from runtime.link.meter import Meter

_ENDS = 2 * 1024
"""Bytes at the beginning and at the end of a long body that are hashed, with its length."""
_KNOWN = 4096
Mark = tuple[int, int]
"""A request's fingerprint, and its place on the board; -1: it has none."""


class InHand:
    """What one worker works on."""

    def __init__(self, board: Board, signs: Signs, meter: Meter) -> None:
        self._board, self._cells, self._meter = board, signs.in_hand, meter
        self._known = [0] * _KNOWN  # fingerprints of requests that were answered
        self._next = 0
        self._poisoned: frozenset[float] = frozenset()
        self._late: list[Mark] = []
        self.look(late=False)

    def look(self, *, late: bool) -> None:
        """Reads from the board which requests are refused. `late`: whether a call runs whose deadline has passed."""
        self._poisoned = frozenset(cell for cell in self._board.poisoned if cell)
        if not late:
            for mark in self._late:
                self.left(mark, late=False)
            self._late.clear()

    def take(self, body: bytes | memoryview) -> Mark:
        """Notes a request; what it returns is for `answered` or `left`. Raises Poisoned."""
        if len(body) > 2 * _ENDS:
            fingerprint = hash((bytes(body[:_ENDS]), bytes(body[-_ENDS:]), len(body)))
        else:
            fingerprint = hash(bytes(body))
        fingerprint = fingerprint & (2**52 - 1) | 1
        if fingerprint in self._poisoned:
            self._meter.add("runtime_poisoned_requests_total", 1)
            raise Poisoned("the model ended its process when it was asked this")
        if self._known[fingerprint % _KNOWN] == fingerprint:
            return fingerprint, -1
        place = self._next = (self._next + 1) % IN_HAND
        self._cells[place] = fingerprint
        return fingerprint, place

    def answered(self, mark: Mark) -> None:
        """Notes that a request did no harm."""
        fingerprint, place = mark
        if place >= 0:
            self._known[fingerprint % _KNOWN] = fingerprint
            self._clear(fingerprint, place)

    def left(self, mark: Mark, *, late: bool) -> None:
        """Notes that a request got no answer of the model. A `late` one may go on in a thread, and stays noted."""
        if late:
            self._late.append(mark)
        else:
            self._clear(*mark)

    def _clear(self, fingerprint: int, place: int) -> None:
        if place >= 0 and self._cells[place] == fingerprint:
            self._cells[place] = 0.0
