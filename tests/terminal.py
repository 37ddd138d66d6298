"""A terminal of our own: what programs show on it, byte for byte."""

from __future__ import annotations

import os
import pty
import termios
import threading
import tty


class Terminal:
    """`fd` is what programs write to; `shown()` closes it, and returns everything once all of them have closed it."""

    def __init__(self, columns: int = 0) -> None:
        self._leader, self.fd = pty.openpty()
        termios.tcsetwinsize(self.fd, (0, columns))
        tty.setraw(self.fd)
        self._shown, self._news = bytearray(), threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, text: str) -> None:
        """Waits until `text` was written."""
        with self._news:
            assert self._news.wait_for(lambda: text in self._shown.decode(errors="replace"), 30.0), self._shown

    def shown(self) -> str:
        os.close(self.fd)
        self._reader.join(30.0)
        assert not self._reader.is_alive(), "a program still has the terminal open"
        os.close(self._leader)
        return self._shown.decode()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._leader, 65_536)
            except OSError:  # EIO: the last writer has closed it, and everything is read
                return
            with self._news:
                self._shown += data
                self._news.notify_all()
