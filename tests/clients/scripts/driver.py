"""Runs in a client's own environment: `python driver.py` reads orders, a JSON line each, and answers each in one.

An order names a module beside this one and a function of it, and says where the server is; the answer has what it
returned, or why it failed.
"""

import asyncio
import importlib
import inspect
import json
import os
import sys
import traceback
from types import SimpleNamespace


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a client prints is no answer
    for line in sys.stdin:
        order = json.loads(line)
        try:
            function = getattr(importlib.import_module(order["module"]), order["function"])
        except Exception:  # noqa: BLE001 - whatever it is, the test shows it
            answers.write(json.dumps({"broken": traceback.format_exc()}) + "\n")
            answers.flush()
            continue
        try:
            result = function(SimpleNamespace(**order))
            answer = {"result": asyncio.run(result) if inspect.iscoroutine(result) else result}
        except BaseException:  # noqa: BLE001 - whatever it is, the test shows it
            answer = {"failed": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
