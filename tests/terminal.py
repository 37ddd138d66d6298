"""A terminal of our own: what a program shows on it, byte for byte."""

from __future__ import annotations

import os
import pty
import tty


class Terminal:
    """`fd` is what a program writes to; `shown()` ends it and gives everything that was written (under 4 kB)."""

    def __init__(self) -> None:
        self._leader, self.fd = pty.openpty()
        tty.setraw(self.fd)

    def shown(self) -> str:
        text = os.read(self._leader, 65_536).decode()
        os.close(self.fd)
        os.close(self._leader)
        return text
