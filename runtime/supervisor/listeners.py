"""The sockets at one address: one for each worker, and the supervisor's copy of each."""

from socket import AF_UNIX

from runtime.supervisor.sockets import Listener, afresh, another, is_reachable


class Listeners:
    """By the number of the worker; `first` is worker 1's."""

    def __init__(self, first: Listener) -> None:
        self.first, self._all = first, {1: first}

    def of(self, slot: int) -> Listener:
        """The supervisor's copy of a worker's socket. Raises OSError if it has to be made and cannot."""
        if slot not in self._all:  # of several workers, one that has no model gets no connections
            self._all[slot] = another(self._all[1], listening=False)
        return self._all[slot]

    def renew(self, slot: int, *, alone: bool) -> bool:
        """After the death of a worker: its socket stays only if the `alone` worker left it as it was. Raises OSError.

        Others get the connections meanwhile; if there are no others, connections wait for the replacement.
        Returns whether the sockets of all workers are new: a spoilt Unix socket is the same for all.
        """
        old = self.of(slot)
        unix = old.family == AF_UNIX
        if (alone or unix) and is_reachable(old):
            return False
        if unix:
            fresh = afresh(old)
            for listener in self._all.values():
                listener.close()
            self._all = {1: fresh}  # the others are made of it
        else:
            self._all[slot] = another(old, listening=alone)
            old.close()
        return unix

    def close(self) -> None:
        """Turns new clients away, and closes the supervisor's copies."""
        for listener in self._all.values():
            listener.turn_away()
            listener.close()
