"""A thread beside the one that brings bytes: hashing and unpacking go on while the network or the disk is read.

hashlib, sockets and files release the GIL for pieces of this size.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from queue import SimpleQueue
from typing import Final

from runtime.errors import BadContent, Cancelled
from runtime.kit.files import CHUNK_BYTES, Read
from runtime.kit.format.digest import DigestCheck

_DEPTH: Final = 4  # pieces that wait
_M_TRIM_THRESHOLD: Final = -1  # <malloc.h>
_M_MMAP_THRESHOLD: Final = -3
_SHORT_BYTES: Final = 64 << 10
SMALL_BYTES: Final = 1 << 20
"""A shorter blob is hashed without a thread of its own."""

Take = Callable[[bytes], object]


def both(first: Take, second: Take) -> Take:
    """Returns what hands bytes to both."""

    def take(data: bytes) -> None:
        first(data)
        second(data)

    return take


class Count:
    """Takes bytes, and tells how many there were so far."""

    def __init__(self, reached: Callable[[int], None]) -> None:
        self._taken, self._reached = 0, reached

    def __call__(self, data: bytes) -> None:
        """Takes the next bytes."""
        self._taken += len(data)
        self._reached(self._taken)


@contextmanager
def gathered(take: Take) -> Iterator[Take]:
    """Yields what hands bytes on to `take`, short pieces together."""
    waiting = bytearray()

    def flush() -> None:
        if waiting:  # an empty piece would be the end
            take(bytes(waiting))
            waiting.clear()

    def put(data: bytes) -> None:
        if len(data) >= _SHORT_BYTES:
            flush()
            take(data)
        else:
            waiting.extend(data)
            if len(waiting) >= CHUNK_BYTES:
                flush()

    yield put
    flush()


def stream_checked(read: Read, check: DigestCheck, size: int, take: Take) -> None:
    """Hands all that `read` gives to `take`, and to `check`. Raises what that raises, at the end."""
    with checking(check, size) as update:
        while data := read(CHUNK_BYTES):
            update(data)
            take(data)


@contextmanager
def checking(check: DigestCheck, size: int) -> Iterator[Take]:
    """Yields what takes the `size` bytes that `check` is for, and hashes long ones in a thread.

    At the end it raises what `DigestCheck.finish` raises.
    """
    if size < SMALL_BYTES:
        yield check.update
    else:

        def hash_all(read: Read) -> None:
            while data := read(CHUNK_BYTES):
                check.hash(data)

        with lanes(hash_all) as put:

            def update(data: bytes) -> None:
                check.count(len(data))
                put(data)

            yield update
    check.finish()


@contextmanager
def lanes(*works: Callable[[Read], object]) -> Iterator[Take]:
    """Yields what hands bytes to all of the works, each in a thread. At the end it raises what one of them raised."""
    _keep_freed_memory()
    running = [Lane(work) for work in works]

    def put(data: bytes) -> None:
        for lane in running:
            lane.put(data)

    try:
        yield put
    except BaseException:
        for lane in running:
            lane.end(aborted=True)
        raise
    failures = [failure for lane in running if (failure := lane.end())]
    if failures:
        raise failures[0]


@contextmanager
def ahead(read: Read) -> Iterator[Read]:
    """Yields what returns the bytes of `read`, and at their end raises what it raised; a thread calls it meanwhile."""
    pipe, failures, stopped = _Pipe(), list[BaseException](), threading.Event()

    def fill() -> None:
        try:
            while not stopped.is_set() and (data := read(CHUNK_BYTES)):
                pipe.put(data)
        except BaseException as failure:  # noqa: BLE001 - raised again by `take`
            failures.append(failure)
        pipe.put(None)

    def take(most: int) -> bytes:
        if not (data := pipe.read(most)) and failures:
            raise failures[0]
        return data

    thread = threading.Thread(target=fill, name="ahead", daemon=True)
    thread.start()
    try:
        yield take
    finally:
        stopped.set()
        pipe.drain()
        thread.join()


@cache
def _keep_freed_memory() -> None:
    """Has glibc keep the memory of pieces for the next ones, which saves a twentieth of the time of a pull.

    https://man7.org/linux/man-pages/man3/mallopt.3.html
    """
    import ctypes

    with suppress(AttributeError):  # only glibc has it
        ctypes.CDLL(None).mallopt(_M_TRIM_THRESHOLD, 4 << 20)
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1 << 20)


class Lane:
    """Runs `work(read)` in a thread; `read` returns what `put` gets, in order."""

    def __init__(self, work: Callable[[Read], object]) -> None:
        self._pipe = _Pipe()
        self._aborted = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), name="lane", daemon=True)
        self._thread.start()

    def put(self, data: bytes) -> None:
        """Hands on the next bytes. Raises what ended the work, except BadContent: the bytes may not be the right ones.

        What is wrong with the content is said by `end`, to a caller that knows then that the bytes are right.
        """
        if self._failure is not None and not isinstance(self._failure, BadContent):
            raise self._failure
        self._pipe.put(data)

    def end(self, *, aborted: bool = False) -> BaseException | None:
        """Waits until the work is done, and returns what it raised. `aborted`: its next `read` raises Cancelled."""
        self._aborted = aborted
        self._pipe.put(None)
        self._thread.join()
        return self._failure

    def _run(self, work: Callable[[Read], object]) -> None:
        try:
            work(self._read)
        except BaseException as failure:  # noqa: BLE001 - raised again by `put` or returned by `end`
            self._failure = failure
        self._pipe.drain()

    def _read(self, most: int) -> bytes:
        data = self._pipe.read(most)
        if self._aborted:
            raise Cancelled("the pull was cancelled")
        return data


class _Pipe:
    """Hands bytes from one thread to another; `put` waits while `_DEPTH` pieces wait. None is the end."""

    def __init__(self) -> None:
        self._waiting: SimpleQueue[bytes | None] = SimpleQueue()
        self._room: SimpleQueue[None] = SimpleQueue()  # two of these cost a third of the CPU of a `Queue(_DEPTH)`
        self._piece, self._position, self._ended = b"", 0, False
        for _ in range(_DEPTH):
            self._room.put(None)

    def put(self, data: bytes | None) -> None:
        self._room.get()
        self._waiting.put(data)

    def read(self, most: int) -> bytes:
        if self._position == len(self._piece) and not self._ended:
            self._next()
        data = self._piece[self._position : self._position + most]
        self._position += len(data)
        return data

    def drain(self) -> None:
        """Passes over the rest, so that `put` does not wait for ever."""
        while not self._ended:
            self._next()

    def _next(self) -> None:
        data = self._waiting.get()
        self._room.put(None)
        self._piece, self._position, self._ended = data or b"", 0, data is None
