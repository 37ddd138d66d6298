"""Every way the runtime can fail, as one tree: each class names the one that it is a kind of.

Exit codes and HTTP statuses are in two tables at the edges, `exits.py` and `serving/statuses.py`; docs/errors.md shows
both. What loading a model may raise is in `adapters.base`, since adapters import nothing of the runtime.
"""

import re
from typing import Final, Self

_BEGIN, _END = "\x02", "\x03"
_PRIVATE: Final = re.compile(f"{_BEGIN}[^{_END}]*{_END}?")
_NO_MARKS: Final = {ord(_BEGIN): None, ord(_END): None}


def private(text: str) -> str:
    """Marks a text that a client sent, for the message of a RequestFailed: its client reads it, its log does not."""
    return f"{_BEGIN}{text.translate(_NO_MARKS)}{_END}"


class Failure(Exception):
    """Anything the runtime reports to a person; `str()` is the whole line."""


class Usage(Failure):
    """The operator asked for something that cannot be."""


class InvalidSetting(Usage):
    """An option or variable has a value that makes no sense."""


class InvalidReference(Usage):
    """The text is not a reference to a kit."""


class CannotListen(Failure):
    """The address is taken, or is not one of this machine."""


class BadContent(Failure):
    """The kit's bytes are wrong; a retry gets the same ones."""


class SizeMismatch(BadContent):
    """More or fewer bytes than the descriptor says."""


class DigestMismatch(BadContent):
    """Other bytes than the digest says."""


class InvalidManifest(BadContent):
    """Not a manifest that this runtime can read."""


class InvalidKitfile(BadContent):
    """Not a Kitfile, or one that contradicts itself or its manifest."""


class NotAModelKit(BadContent):
    """The reference names an artifact of another kind."""


class UnsafeArchive(BadContent):
    """A layer holds something else than files and folders of the kit."""


class NoModel(BadContent):
    """The kit has nothing to serve."""


class Unsupported(BadContent):
    """A correct kit that needs what this version does not have."""


class MissingPackage(Unsupported):
    """Something needs a package that is not installed."""

    @classmethod
    def of(cls, extra: str, said: str, otherwise: str = "") -> Self:
        """Returns it with what installs the extra of ours that has the package, between both texts."""
        from adapters.imports import how_to_install

        return cls(f"{said}: {how_to_install(extra)}{otherwise}")


class NotSigned(Failure):
    """A kit has no signature that one of the operator's keys made."""


class NotFound(Failure):
    """No such repository, tag, digest or folder."""


class RegistryUnavailable(Failure):
    """The registry is unreachable or failing, and the retries are spent."""


class LoginRefused(Failure):
    """The registry wants credentials and got none, or wrong ones."""


class StorageFailed(Failure):
    """The cache cannot be written (disk full, read-only, of another owner), or nothing else can."""


class Cancelled(Failure):
    """A signal stopped the work."""


class CrashLoop(Failure):
    """Workers die one after another."""


class Exhausted(Failure):
    """No file descriptor, thread or memory is left for this process."""


class NotExamined(Failure):
    """The process that looks at a kit's files takes too long, or says what cannot be."""


class WrongRow(Failure):
    """A row that `runtime predict` was given does not fit the model, or the model fails on it."""


class SamplesDiffer(Failure):
    """The model's answers differ from the samples in its kit."""


class RequestFailed(Failure):
    """One request failed; the server lives on. `str()` is for the client, `logged` for the log."""

    advice = ""  # what the answer says behind the line: a body that would pass

    def __str__(self) -> str:
        text = super().__str__()
        return text.translate(_NO_MARKS) if _BEGIN in text or _END in text else text

    @property
    def logged(self) -> str:
        """The line with `***` for everything that the client sent."""
        text = super().__str__()
        return _PRIVATE.sub("***", text) if _BEGIN in text else text


class InvalidInput(RequestFailed):
    """The request is unreadable or does not fit the model."""


class InputAtFault(InvalidInput):
    """The inputs are what is wrong: the answer shows some that pass."""


class UnknownModel(RequestFailed):
    """No such model or version."""


class TooLarge(RequestFailed):
    """The body is over the limit."""


class UnsupportedMedia(RequestFailed):
    """A content type or coding that has no meaning here."""


class UnsupportedCoding(UnsupportedMedia):
    """A content coding that has no meaning here."""


class Overloaded(RequestFailed):
    """No permit is free."""


class NotReady(RequestFailed):
    """The model is loading, or the server is draining."""


class DeadlinePassed(RequestFailed):
    """The deadline passed in the queue or in the model."""


class PredictFailed(RequestFailed):
    """The model raised; the cause is in the log."""


class RuntimeFailed(PredictFailed):
    """The runtime itself failed; the cause is in the log."""


class Poisoned(PredictFailed):
    """A worker has ended with this request in hand: it is not run again."""
