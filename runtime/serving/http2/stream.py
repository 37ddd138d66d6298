"""One stream: a request and its answer. Who answers makes a subclass of it."""


class Stream:
    """What a connection knows of a stream."""

    __slots__ = ("granted", "number", "pending", "receiving", "since", "trailers", "window")

    def __init__(self, number: int, window: int, granted: int) -> None:
        self.number, self.window, self.granted = number, window, granted
        """The second: bytes of DATA that may be sent; the third: that the client may send."""
        self.receiving = True
        """Until the client has ended its half."""
        self.pending: list[memoryview] = []
        """DATA that waits for a window."""
        self.trailers: bytes | None = None
        """What ends the answer once nothing is pending."""
        self.since = 0
        """When something of what is pending was written last."""

    def opened(self) -> None:
        """Is called first."""

    def received(self, piece: bytes, *, ended: bool) -> bool:
        """Takes a piece of the body, the last one if it has `ended`. Returns whether the client may send as much more
        now; else `Output.grant` says it later."""
        raise NotImplementedError

    def run(self) -> None:
        """Answers a request that is whole. Called by `Output.due`; raises nothing."""
        raise NotImplementedError

    def left(self) -> None:
        """Ends the stream without an answer: the client is gone, or may not be answered any more."""
        raise NotImplementedError

    def sent(self) -> None:
        """Goes on: nothing is pending any more."""

    def look(self, tick: int) -> None:
        """Ends what takes too long: called once a second."""
