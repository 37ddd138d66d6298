"""What a protocol is: one frozen value (docs/writing-a-protocol.md). The table of them is `serving.codec_table`."""

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from adapters.values import Arrays
from runtime.errors import RequestFailed
from runtime.serving.accounts import Account
from runtime.serving.engine.request import Request
from runtime.serving.media import Head
from runtime.serving.served import Models, Served
from runtime.serving.statuses import Response

PAGE_BYTES: Final = 65_536
"""What a page's body, or a message that is no inference, may have: it is read while others wait."""


class Page(NamedTuple):
    """Something to ask for: `answer` gets the models and what stands in the path's braces. May raise RequestFailed."""

    path: str
    """As Starlette writes it; where it has `{model}`, the answer gets the headers that say where the model is from."""
    answer: Callable[..., Response]
    quiet: bool = False
    """Asked every few seconds by machines: refusals are not logged."""
    methods: tuple[str, ...] = ("GET",)
    wants_body: bool = False
    """`answer` gets the body, too: of at most `PAGE_BYTES`, empty where the request is no POST."""


class Codec(NamedTuple):
    """One protocol. Its functions are pure: no clock, no log, no metrics, no memory of earlier requests."""

    name: str
    """The metrics' label `protocol`."""
    paths: tuple[str, ...]
    """Where predictions are asked for by POST; each may have `{model}` (without it, the only one) and `{version}`."""
    media_types: tuple[bytes | None, ...]
    """Content types that mean this protocol, in lower case, without parameters; the first is named in refusals; None:
    no Content-Type at all. Other types go to the first codec of a path, unless they clearly mean something else."""
    decode: Callable[[Head, Any, Served], Request]
    """A request's headers (names in lower case) and its `Body` → what the model is asked. Raises InvalidInput."""
    encode: Callable[[Served, Request, Arrays], Response]
    """The answer with the outputs that the request wanted, of the datatypes that the model promised."""
    refuse: Callable[[RequestFailed], Response]
    """The answer that tells a client of a failure."""
    prepare: Callable[[Served], object] = lambda _: None
    """What does not change from request to request of a model; kept in `served.forms` under `name`."""
    longest_body: int = 2**31 - 1
    """Bytes that a body may have at most, whatever `--max-body-bytes` says; a tensor has no more elements than this."""
    pages: tuple[Page, ...] = ()
    later_pages: Callable[[], tuple[Page, ...]] = tuple
    """Further pages, before the others; called when the server listens, and no start waits for what it imports."""
    describe: Callable[[Models], dict[str, Any]] = lambda _: {}
    """Path items of OpenAPI 3.1 for what it answers about these models, by path (`protocol.openapi` has pieces)."""
    aside: frozenset[bytes | None] = frozenset()
    """Those of `media_types` whose bodies are decoded in a thread, however short they are."""
    images: bool = False
    """Whether any body may hold images: of a model that takes some, all are decoded in a thread."""
    binary_at: Callable[[Head], int | None] = lambda _: None
    """Where in a body tensors begin as bytes, None for a body of text. A long body is then put into memory (`decode`
    gets a memoryview that may be written) so that this byte is aligned."""
    text_bytes: Callable[[Head, Any], int] = lambda _, body: len(body)
    """How many bytes of a body are not those of tensors: a long body is decoded on the event loop if they are few."""


def prepare(served: Served, codecs: Iterable[Codec]) -> None:
    """Lays out what each protocol needs for a model, and opens its accounts; `codecs` is the whole table, in order."""
    for place, codec in enumerate(codecs):
        if codec.name not in served.forms:
            served.prepare[codec.name] = codec.prepare
            served.forms[codec.name] = codec.prepare(served)
            served.accounts[codec.name] = Account(served.meter, place)
            served.answered[codec.name] = served.log.answers(
                "request.answered", model=served.name, protocol=codec.name, status=200
            )
