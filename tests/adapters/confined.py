"""A process that enters a worker's sandbox, loads models, one after another, and asks each: each framework is imported once.

Reads pickled models, each with fields of Options and its right answers; writes for each `right`, or the error.
"""

import pickle
import sys
from typing import TYPE_CHECKING, Any

from runtime.worker.harden import FULL, narrow, shut_in

if TYPE_CHECKING:
    from tests.adapters.kits import Unpacked


def came_of(kit: "Unpacked", changes: dict[str, Any], cases: list[dict[str, Any]]) -> str:
    from tests.adapters.kits import check_case

    try:
        _, model, _ = kit.load(confined=True, threads=1, **changes)
        for case in cases:
            check_case(model, case)
    except Exception as error:  # noqa: BLE001 - whatever it was, the test knows the right one
        return f"{type(error).__name__}: {error}"
    return "right"


if __name__ == "__main__":
    folder = sys.argv[1]
    assert FULL.fullmatch(narrow(shut_in("auto", folder), folder))  # before numpy is imported, which may start threads
    tries = pickle.load(sys.stdin.buffer)
    sys.stdout.buffer.write(pickle.dumps({name: came_of(*tried) for name, tried in tries.items()}))
