"""What stands in front of a server: a gateway with a prefix, pages of other origins, a platform with its routes."""

from typing import NamedTuple


class Gateway(NamedTuple):
    """What the operator, or the platform's variables, say about it."""

    root_path: str = ""
    """The prefix of paths that a gateway does not take away, `/models/iris`."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may ask; `*` is any."""
    predict_route: str | None = None
    """A further path of plain predictions."""
    health_route: str | None = None
    """A further path of the readiness report."""


NO_GATEWAY = Gateway()
