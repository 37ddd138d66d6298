"""Where workers write the events of their own logs: standard error, or a pipe to it where it is a regular file.

Whoever has a file open to write can change what stands in it, and cut it. Landlock and seccomp cannot tell that from
a line that is added.
"""

import os
import stat
import threading
from contextlib import suppress
from typing import Final

_READ_BYTES: Final = 64 * 2**10
_FINISH_SECONDS: Final = 1.0


class WorkerLog:
    """`fd` is what workers get."""

    def __init__(self, standard_error: int = 2) -> None:
        self.fd, self._thread = standard_error, None
        if stat.S_ISREG(os.fstat(standard_error).st_mode):
            end, self.fd = os.pipe()
            self._thread = threading.Thread(target=_pass_on, args=(end, standard_error), name="log", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Waits until all that workers wrote is in the file. To be called after their end."""
        if self._thread is not None:
            os.close(self.fd)
            self._thread.join(_FINISH_SECONDS)


def _pass_on(end: int, file: int) -> None:
    while data := os.read(end, _READ_BYTES):
        with suppress(OSError):  # the disk is full
            os.write(file, data)
    os.close(end)
