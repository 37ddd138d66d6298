"""One blob from a registry into an ingest file, verified as it comes: size before digest, and never a byte too many."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Final, Protocol

from runtime.errors import DigestMismatch, SizeMismatch
from runtime.kit.cache.store import CHUNK_BYTES, Ingest
from runtime.kit.registry.retry import Patience, Transient

if TYPE_CHECKING:
    from runtime.kit.format.manifest import Descriptor

_PROGRESS_BYTES: Final = 1024 * 1024
"""New bytes that count as getting somewhere, so that the retry budget starts anew."""


class Body(Protocol):
    """Bytes of an answer; see `wire.Body`."""

    start: int
    length: int | None
    encoding: str

    def read(self, most: int) -> bytes:
        """Up to `most` bytes, none at the end. Raises Transient."""

    def close(self) -> None:
        """Done with it."""


class Download:
    """State of one download: how far it is, what the bytes so far hash to, how far it ever was.

    `open_body` makes one attempt from an offset; its body may start at 0 all the same. `reached` gets each position.
    """

    def __init__(
        self,
        descriptor: Descriptor,
        ingest: Ingest,
        open_body: Callable[[int], Body],
        patience: Patience,
        reached: Callable[[int], None],
    ) -> None:
        self._wanted, self._ingest = descriptor, ingest
        self._open, self._patience, self._reached = open_body, patience, reached
        self._hasher, self._offset = descriptor.digest.hasher(), 0
        self._farthest = self._counted = 0
        self._ended_at = -1
        self._note = ""

    def run(self) -> None:
        """Fill the ingest file. Raises SizeMismatch, DigestMismatch, and what attempts raise when patience ends."""
        while self._offset < self._wanted.size:
            try:
                self._attempt()
            except Transient as cut:
                self._credit()
                self._patience.after(cut)
        if self._hasher.hexdigest() != self._wanted.digest.hex:
            seen = f"{self._wanted.digest.algorithm}:{self._hasher.hexdigest()}"
            raise DigestMismatch(f"{self._what}: the registry sent {self._offset} bytes with digest {seen}{self._note}")

    @property
    def _what(self) -> str:
        return f"blob {self._wanted.digest}"

    def _attempt(self) -> None:
        with closing(self._open(self._offset)) as body:
            if body.start != self._offset:
                self._restart()
            self._check_length(body)
            self._take(body)
        if self._offset < self._wanted.size:
            self._ended()

    def _restart(self) -> None:
        """The server ignored the range and sends everything again: bytes of two answers are never mixed."""
        self._ingest.restart()
        self._hasher, self._offset = self._wanted.digest.hasher(), 0

    def _check_length(self, body: Body) -> None:
        if body.encoding.lower() != "identity":
            self._note = f" (sent with Content-Encoding {body.encoding[:20]!r})"
        if body.length is not None and body.start + body.length != self._wanted.size:
            raise SizeMismatch(
                f"{self._what}: the registry sends {body.start + body.length} bytes, "
                f"wanted {self._wanted.size} ({self._offset} read){self._note}"
            )

    def _take(self, body: Body) -> None:
        while chunk := body.read(CHUNK_BYTES):
            if self._offset + len(chunk) > self._wanted.size:
                seen = self._offset + len(chunk)
                raise SizeMismatch(
                    f"{self._what}: the registry sends more than {self._wanted.size} bytes ({seen} read)"
                )
            self._ingest.write(chunk)
            self._hasher.update(chunk)
            self._offset += len(chunk)
            self._reached(self._offset)

    def _ended(self) -> None:
        """A body without a length ended early: cut off once, short when it happens twice at the same byte."""
        if self._ended_at == self._offset:
            raise SizeMismatch(
                f"{self._what}: the registry sent {self._offset} bytes, wanted {self._wanted.size}{self._note}"
            )
        self._ended_at = self._offset
        raise Transient(f"the connection was closed after {self._offset} of {self._wanted.size} bytes")

    def _credit(self) -> None:
        """Restart the budget when there are new bytes; the same ones again are none."""
        self._farthest = max(self._farthest, self._offset)
        if self._farthest - self._counted >= _PROGRESS_BYTES:
            self._counted = self._farthest
            self._patience.progressed()
