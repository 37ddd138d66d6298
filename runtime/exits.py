"""The one table from a failure to the exit code of the process; docs/errors.md shows it to operators.

The codes are those of sysexits.h where it has one: https://man.freebsd.org/cgi/man.cgi?sysexits
"""

from typing import Final

from adapters import base
from runtime import errors

EXIT_CODES: Final[tuple[tuple[type[Exception], int], ...]] = (
    (errors.Cancelled, 0),
    (errors.Usage, 2),
    (errors.CannotListen, 3),
    (errors.MissingPackage, 78),
    (errors.BadContent, 65),
    (base.AmbiguousModel, 65),
    (errors.WrongRow, 65),
    (errors.NotFound, 66),
    (errors.RegistryUnavailable, 69),
    (base.LoadFailed, 70),
    (errors.NotExamined, 70),
    (errors.CrashLoop, 71),
    (errors.Exhausted, 71),
    (errors.StorageFailed, 74),
    (errors.SamplesDiffer, 76),
    (errors.LoginRefused, 77),
    (base.NoAdapter, 78),
    (base.MissingFramework, 78),
    (base.Refused, 79),
    (errors.NotSigned, 79),
)
UNHEALTHY: Final = 1  # `runtime health` found no ready server; also a fault of the runtime itself
KILLED: Final = 128  # this and the number of the signal is the exit code of what a signal ended before it was done


def exit_code(error: BaseException) -> int:
    """Returns the code of `error`; 1 if the table has none, for a fault of the runtime."""
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), UNHEALTHY)
