"""One blob from a registry, in order, each byte once: what is cut off goes on at the byte where it stopped."""

import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Final

from runtime.kit.files import CHUNK_BYTES
from runtime.kit.format.digest import DigestCheck
from runtime.kit.format.manifest import Descriptor
from runtime.kit.registry.client import Body
from runtime.kit.registry.ranges import Ranges
from runtime.kit.registry.repository import Repository
from runtime.kit.registry.retry import RetryBudget, Transient

_PROGRESS_BYTES: Final = 1024 * 1024  # new bytes after which the retry budget starts again
RANGES_FROM_BYTES: Final = 64 << 20
"""What is left of a blob is asked for in ranges from here on."""
_PROBED_BYTES: Final = 8 << 20
_PROBED_SECONDS: Final = 1.0
_FAST: Final = 200e6  # bytes a second: a connection that brings more is not what a pull waits for
WINDOW_SECONDS: Final = 20.0
"""A connection is replaced that brings less for this long than the minimum rate, or a tenth of the median range."""
_READ_BYTES: Final = 128 << 10  # of a range, in up to 32 threads at a time
_PEERS: Final = 4  # ranges that have to be there for a median
_SLOWER: Final = 10


class Download:
    """One download. `take` gets the bytes that are new; `check`, which counts them, knows those that are here already.

    `fresh` asks caches on the way for a new copy.
    """

    def __init__(
        self, descriptor: Descriptor, check: DigestCheck, repository: Repository, take: Callable[[bytes], object],
        *, fresh: bool,
    ) -> None:  # fmt: skip
        self._wanted, self._check, self._take = descriptor, check, take
        self._repository, self._budget, self._fresh = repository, repository.retry_budget(), fresh
        self._counted, self._ended_at = check.taken_bytes, -1
        self._rates: list[float] = []  # of the ranges that came, in bytes a second

    def run(self) -> None:
        """Hands on all bytes. Raises SizeMismatch, what `take` raises, and what attempts raise at the budget's end."""
        while self._check.taken_bytes < self._wanted.size:
            try:
                self._attempt()
            except Transient as cut:
                if self._check.taken_bytes - self._counted >= _PROGRESS_BYTES:
                    self._counted = self._check.taken_bytes
                    self._budget.restart()
                self._budget.wait_after(cut)

    def _attempt(self) -> None:
        start = self._check.taken_bytes
        body = self._repository.open_blob(self._wanted, start, self._budget, fresh=self._fresh)
        with closing(body):
            if body.encoding.lower() != "identity":
                self._check.advice = f" (sent with Content-Encoding {body.encoding[:20]!r})"
            if body.length is not None:
                self._check.check_size(body.start + body.length)
            self._read(body, start - body.start)
        if (seen := self._check.taken_bytes) < self._wanted.size:
            if self._ended_at == seen:  # cut off once, but too short if it ends twice at the same byte
                self._check.check_size(seen)
            self._ended_at = seen
            raise Transient(f"the connection was closed after {seen} of {self._wanted.size} bytes")

    def _read(self, body: Body, known: int) -> None:
        """Hands on a body, except its first `known` bytes: a server that ignores ranges sends them again."""
        rate = _Rate(body, self._least_rate)
        while chunk := rate.read(CHUNK_BYTES):
            if known:
                known, chunk = max(0, known - len(chunk)), chunk[known:]
            if chunk:
                self._take(chunk)
                left = self._wanted.size - self._check.taken_bytes
                if left >= RANGES_FROM_BYTES and self._may_use_ranges(body) and rate.is_slow_alone():
                    body.close()
                    self._read_ranges()
                    return

    def _may_use_ranges(self, body: Body) -> bool:
        return body.takes_ranges and self._repository.ranges and not self._fresh

    def _read_ranges(self) -> None:
        """Hands on the rest, over several connections at once: one alone is slower than the disk."""
        done, buffers = self._check.taken_bytes, self._repository.buffers
        ranges = Ranges(lambda start, to: self._fill(start, to, ranges.stopped), done, self._wanted.size, buffers)
        with suppress(_Ignored):
            for piece in ranges:
                for start in range(0, len(piece), CHUNK_BYTES):
                    self._take(bytes(piece[start : start + CHUNK_BYTES]))

    def _fill(self, start: int, buffer: memoryview, stopped: threading.Event) -> None:
        """Fills the buffer from there on, over as many connections as it takes. Raises _Ignored for other bytes."""
        position, end, budget = start, start + len(buffer), self._repository.retry_budget()
        began = time.monotonic()
        while position < end:
            before = position
            try:
                with closing(self._open_range(position, end, budget)) as body:
                    rate = _Rate(body, self._least_rate)
                    while position < end and (chunk := rate.read(min(_READ_BYTES, end - position))):
                        if stopped.is_set():
                            raise _Ignored
                        buffer[position - start :][: len(chunk)] = chunk
                        position += len(chunk)
                cut = Transient("the connection was closed before the end of its range")
            except Transient as failure:
                cut = failure
            if position > before:
                budget.restart()
            if position < end:
                budget.wait_after(cut)
        self._rates.append(len(buffer) / max(time.monotonic() - began, 1e-6))

    def _least_rate(self) -> float:
        """Returns the bytes a second below which a connection is replaced: also a tenth of what others bring."""
        rates = sorted(self._rates)
        peers = rates[len(rates) // 2] / _SLOWER if len(rates) >= _PEERS else 0.0
        return max(self._repository.min_rate, peers)

    def _open_range(self, start: int, end: int, budget: RetryBudget) -> Body:
        body = self._repository.open_blob(self._wanted, start, budget, end=end)
        if body.start != start:
            body.close()
            self._repository.ranges = False
            raise _Ignored
        return body


class _Ignored(Exception):
    """The server sends something else than the range asked for, or nobody wants it any more."""


class _Rate:
    """Reads a body, and counts bytes and the seconds that it was waited for."""

    def __init__(self, body: Body, least: Callable[[], float]) -> None:
        self._body, self._least = body, least
        self._bytes, self._seconds = 0, 0.0  # of the current window
        self._all_bytes, self._all_seconds = 0, 0.0

    def read(self, most: int) -> bytes:
        """Reads as `Body.read` does. Raises Transient, too, at the end of a window with too few bytes."""
        began = time.monotonic()
        data = self._body.read(most)
        waited = time.monotonic() - began
        self._bytes, self._seconds = self._bytes + len(data), self._seconds + waited
        self._all_bytes, self._all_seconds = self._all_bytes + len(data), self._all_seconds + waited
        if self._seconds >= WINDOW_SECONDS:
            if self._bytes < (least := self._least()) * self._seconds:
                slow = f"{self._bytes / self._seconds:.0f} bytes a second for {self._seconds:.0f} s"
                raise Transient(f"the connection brought {slow}, wanted {least:.0f} (--min-rate, or a tenth of others)")
            self._bytes, self._seconds = 0, 0.0
        return data

    def is_slow_alone(self) -> bool:
        """Tells, after enough bytes or time, whether more connections could bring more."""
        known = self._all_bytes >= _PROBED_BYTES or self._all_seconds >= _PROBED_SECONDS
        return known and self._all_bytes < _FAST * self._all_seconds
