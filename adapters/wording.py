"""The words of errors: a framework's exception as one line, and long lists cut short."""

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from adapters.base import AdapterError, LoadFailed


def reason(error: BaseException, longest: int = 200) -> str:
    """Returns the text of `error` in one line of at most `longest` characters; its class if it has no text."""
    text = f"no {error}" if type(error) is KeyError else str(error)  # a KeyError's text is the key alone
    return " ".join(text.split())[:longest] or type(error).__name__


def listed(names: Iterable[object], at_most: int = 8) -> str:
    """Returns `a, b and 3 more`, or `nothing`."""
    texts = [str(name) for name in names]
    shown = ", ".join(texts[:at_most]) or "nothing"
    return f"{shown} and {len(texts) - at_most} more" if len(texts) > at_most else shown


def with_class(error: BaseException) -> str:
    """Returns the class of `error` and its text: for exceptions of the kit's own code."""
    return f"{type(error).__name__}: {reason(error)}"


def is_ctrl_c(error: BaseException) -> bool:
    """True if `error` is Ctrl-C in a program that uses the runtime as a library; in a worker it never is."""
    on_main = threading.current_thread() is threading.main_thread()
    is_interrupt = isinstance(error, KeyboardInterrupt) and on_main
    return is_interrupt and signal.getsignal(signal.SIGINT) is signal.default_int_handler


@contextmanager
def failing(what: str, say: Callable[[BaseException], str] = reason) -> Iterator[None]:
    """Turns an exception of the block into LoadFailed: `what`, a colon, and what `say` makes of it.
    An AdapterError is a whole line already. A MemoryError says nothing about the file: the runtime reports it."""
    try:
        yield
    except (AdapterError, MemoryError):
        raise
    except BaseException as error:  # a framework, or a kit's own code, can raise anything, CancelledError too
        if is_ctrl_c(error):
            raise
        raise LoadFailed(f"{what}: {say(error)}") from error
