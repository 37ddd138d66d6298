"""The sockets at one address: one for each worker, and the supervisor's copy of each."""

from contextlib import suppress
from socket import AF_UNIX, SHUT_RDWR

from runtime.supervisor.sockets import Listener, afresh, another, is_reachable


class Listeners:
    """The sockets by the number of their worker; `first` is worker 1's."""

    def __init__(self, first: Listener) -> None:
        self.first, self._all = first, {1: first}

    def of(self, slot: int) -> Listener:
        """Returns the supervisor's copy of a worker's socket, made if it is missing. Raises OSError."""
        if slot not in self._all:  # does not listen: a worker without a model gets no connections
            self._all[slot] = another(self._all[1], listening=False)
        return self._all[slot]

    def renew(self, slot: int, *, alone: bool) -> bool:
        """Replaces the socket of a worker that died. Raises OSError.

        The socket of a worker that was `alone` stays if it still works: connections wait there for the replacement. Of
        several workers, the others get the connections. Returns True if the sockets of all workers are new: they share
        a Unix socket.
        """
        old = self.of(slot)
        unix = old.family == AF_UNIX
        if (alone or unix) and is_reachable(old):
            return False
        if unix:
            fresh = afresh(old)
            for listener in self._all.values():
                listener.close()
            self._all = {1: fresh}  # `of` makes the others of it
        else:
            self._all[slot] = another(old, listening=alone)
            with suppress(OSError):  # a worker has shut it down
                old.shutdown(SHUT_RDWR)  # the worker's survivor may have a copy for some milliseconds
            old.close()
        return unix

    def close(self) -> None:
        """Turns new clients away, and closes the supervisor's copies."""
        for listener in self._all.values():
            listener.turn_away()
            listener.close()
