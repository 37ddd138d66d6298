"""What one request, one connection and all of them together may cost."""

from typing import NamedTuple


class Limits(NamedTuple):
    """Every limit, with its unit in its name where it has one; more than the limit is refused, never cut."""

    body_bytes: int = 64 * 1024 * 1024  # of one request, in every form: `--max-body-bytes`
    json_depth: int = 64
    chunks: int = 65_536  # chunks of one chunked body
    inputs: int = 64  # of one request; more where the model has more than half of it
    rank: int = 16
    elements: int = 2**31 - 1  # elements of one tensor
    id_bytes: int = 1024

    in_flight: int = 1024  # permits: requests that are queued or running
    in_flight_rows: int = 100_000  # rows of those requests, all together; a single one may have more
    in_flight_bytes: int = 256 * 1024 * 1024
    """Bodies of those requests, all together, and as many again of bodies that are still coming in several pieces; a
    single one may be longer."""
    json_bytes: int = 64 * 1024 * 1024
    """What the objects of one JSON body may take, or 4 times its length if that is more. One is read at a time."""
    deadline_seconds: float = 30.0  # from a request's arrival to its answer; 0: none
    inline_seconds: float = 0.0003  # a prediction expected to take less runs on the event loop, without a thread hop
    alone_seconds: float = 0.004  # and one that takes less than this, while no other request is there
    inline_body_bytes: int = 64 * 1024  # a longer body is decoded off the event loop
    memory_bytes: int = 0  # of one worker; 0: what the container or the machine has
    threads: int = 4  # concurrent predictions of a model that is safe to call from several threads

    uri_bytes: int = 4096
    head_bytes: int = 16 * 1024
    headers: int = 100
    head_seconds: float = 10.0
    body_seconds: float = 60.0
    body_bytes_per_second: int = 1024  # asked of a body after its first five seconds
    keep_alive_seconds: float = 75.0
    linger_seconds: float = 5.0
    """How long a refused body is read and thrown away, so that its sender can read the refusal."""
    unread_seconds: float = 60.0  # how long a client may read nothing of an answer
    pipelined: int = 256  # requests that wait behind another one on their connection
    connections: int = 1024  # fewer where the process has not the file descriptors for that many

    access_log: float = 1.0  # `Log.access`: `--access-log`
    log_inputs: bool = False  # whether logs may hold what clients sent: `--log-inputs`
