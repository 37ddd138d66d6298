"""Every way the runtime can fail, as one tree. Exit codes and HTTP statuses are the matter of two tables at the edges.

    Failure                      one line for a person: what failed, on what, seen and wanted, what to do
    ├── Usage                    the operator asked for something that cannot be
    │   ├── InvalidSetting       an option or variable has a value that makes no sense
    │   └── InvalidReference     --kit is not a reference
    ├── CannotListen             the address is taken or not ours
    ├── BadContent               bytes that retrying cannot mend
    │   ├── SizeMismatch         more or fewer bytes than the descriptor says
    │   ├── DigestMismatch       other bytes than the digest says
    │   ├── InvalidManifest      not a manifest
    │   ├── InvalidKitfile       not a Kitfile, or one that contradicts itself
    │   ├── NotAModelKit         an artifact of another kind
    │   ├── UnsafeArchive        a layer that holds more than files and folders of the kit
    │   ├── NoModel              a kit that has nothing to serve
    │   └── Unsupported          a correct kit that needs what this version does not have
    ├── NotFound                 no such repository, tag, digest or folder
    ├── RegistryUnavailable      unreachable or failing, retries spent
    ├── LoginRefused             no credentials, or wrong ones
    ├── StorageFailed            disk full, cache not writable
    ├── Cancelled                told to stop while at it
    ├── CrashLoop                workers die faster than they are worth replacing
    ├── SamplesDiffer            the model does not answer what its author saw
    └── RequestFailed            one request; the server lives on
        ├── InvalidInput         unreadable, unknown tensor, wrong datatype or shape
        ├── UnknownModel         no such model or version
        ├── TooLarge             the body is over the limit
        ├── UnsupportedMedia     a content type or encoding we give no meaning to
        ├── Overloaded           no permit free
        ├── NotReady             loading or draining
        ├── DeadlinePassed       in the queue or in the model
        └── PredictFailed        the model raised

What a model's loading may raise lives in `adapters.base`, since adapters import nothing of the runtime.
"""


class Failure(Exception):
    """Anything the runtime reports to a person; `str()` is the whole line."""


class Usage(Failure):
    """The operator asked for something that cannot be."""


class InvalidSetting(Usage):
    """An option or variable has a value that makes no sense."""


class InvalidReference(Usage):
    """The text is not a reference to a kit."""


class CannotListen(Failure):
    """The address is taken or not ours."""


class BadContent(Failure):
    """Bytes that retrying cannot mend."""


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
    """A layer that holds something else than files and folders of the kit."""


class NoModel(BadContent):
    """The kit has nothing to serve."""


class Unsupported(BadContent):
    """A correct kit that needs what this version does not have."""


class NotFound(Failure):
    """No such repository, tag, digest or folder."""


class RegistryUnavailable(Failure):
    """The registry is unreachable or failing, and the retries are spent."""


class LoginRefused(Failure):
    """The registry wants credentials and got none, or wrong ones."""


class StorageFailed(Failure):
    """The cache cannot be written: disk full, read-only, not ours."""


class Cancelled(Failure):
    """Told to stop while at it."""


class CrashLoop(Failure):
    """Workers die faster than they are worth replacing."""


class SamplesDiffer(Failure):
    """The model does not answer what its author saw."""


class RequestFailed(Failure):
    """One request failed; the server lives on."""


class InvalidInput(RequestFailed):
    """The request is unreadable or does not fit the model."""


class UnknownModel(RequestFailed):
    """No such model or version."""


class TooLarge(RequestFailed):
    """The body is over the limit."""


class UnsupportedMedia(RequestFailed):
    """A content type or encoding that has no meaning here."""


class Overloaded(RequestFailed):
    """No permit is free."""


class NotReady(RequestFailed):
    """The model is loading, or the server is draining."""


class DeadlinePassed(RequestFailed):
    """The deadline passed in the queue or in the model."""


class PredictFailed(RequestFailed):
    """The model raised; the cause is in the log."""
