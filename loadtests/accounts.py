"""What metrics cost a request: its eight numbers noted, and counted with hundreds of others.

python -m loadtests.accounts
"""

import asyncio
from time import perf_counter

from runtime.link.meter import Meter
from runtime.link.metrics import WIDTH
from runtime.serving.accounts import Account

_REQUESTS = 200_000
_TOGETHER = 500  # in 50 ms, at 10,000 requests a second


async def main() -> None:
    account = Account(Meter(memoryview(bytearray(8 * WIDTH)).cast("d")), 0)
    whole, empty = (min(timed(account, count=count) for _ in range(7)) for count in (True, False))
    print(f"{(whole - empty) / _REQUESTS * 1e6:.2f} us a request")


def timed(account: Account, *, count: bool) -> float:
    started = perf_counter()
    for number in range(_REQUESTS):
        if count:
            account.answered(0.00006, 0.0, 0.000012, 0.000015, 0.000003, 1, 83, 190)
        if number % _TOGETHER == 0:
            account.settle()
    return perf_counter() - started


if __name__ == "__main__":
    asyncio.run(main())
