"""One blob from a registry into a new file, checked as it comes: size before digest, and never a byte too many."""

from collections.abc import Callable
from contextlib import closing
from typing import Final

from runtime.kit.files import CHUNK_BYTES, NewFile
from runtime.kit.format.digest import DigestCheck
from runtime.kit.format.manifest import Descriptor
from runtime.kit.registry.repository import Repository
from runtime.kit.registry.retry import Transient

_PROGRESS_BYTES: Final = 1024 * 1024  # new bytes after which the retry budget starts again


class Download:
    """One download. `fresh` asks caches on the way for a new copy; `reached` gets each position."""

    def __init__(
        self, descriptor: Descriptor, file: NewFile, repository: Repository, reached: Callable[[int], None], fresh: bool
    ) -> None:
        self._wanted, self._file, self._reached = descriptor, file, reached
        self._repository, self._budget, self._fresh = repository, repository.retry_budget(), fresh
        self._farthest = self._counted = 0
        self._ended_at = -1
        self._check = self._new_check()

    def run(self) -> None:
        """Fills the file. Raises SizeMismatch, DigestMismatch, and what attempts raise once the budget is spent."""
        while self._check.taken_bytes < self._wanted.size:
            try:
                self._attempt()
            except Transient as cut:
                self._farthest = max(self._farthest, self._check.taken_bytes)
                if self._farthest - self._counted >= _PROGRESS_BYTES:  # the same bytes again do not count
                    self._counted = self._farthest
                    self._budget.restart()
                self._budget.wait_after(cut)
        self._check.finish()

    def _new_check(self) -> DigestCheck:
        return DigestCheck(self._wanted.digest, self._wanted.size, f"blob {self._wanted.digest} from the registry")

    def _attempt(self) -> None:
        body = self._repository.open_blob(self._wanted, self._check.taken_bytes, self._budget, fresh=self._fresh)
        with closing(body):
            if body.start != self._check.taken_bytes:  # the server ignored the range
                self._file.restart()
                self._check = self._new_check()
            if body.encoding.lower() != "identity":
                self._check.advice = f" (sent with Content-Encoding {body.encoding[:20]!r})"
            if body.length is not None:
                self._check.check_size(body.start + body.length)
            while chunk := body.read(CHUNK_BYTES):
                self._check.update(chunk)
                self._file.write(chunk)
                self._reached(self._check.taken_bytes)
        if (seen := self._check.taken_bytes) < self._wanted.size:
            if self._ended_at == seen:  # cut off once, but too short if it ends twice at the same byte
                self._check.finish()
            self._ended_at = seen
            raise Transient(f"the connection was closed after {seen} of {self._wanted.size} bytes")
