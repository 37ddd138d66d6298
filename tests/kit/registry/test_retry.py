"""The retry budget."""

import itertools

import pytest

from runtime.errors import RegistryUnavailable
from runtime.kit.registry import retry as module
from runtime.kit.registry.retry import RetryBudget, Transient


class Clock:
    """Time that passes only while somebody pauses."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module.time, "monotonic", clock.monotonic)
    monkeypatch.setattr(module.random, "uniform", lambda low, high: high)
    return clock


def failing(times: float, result: str = "done", retry_after: float | None = None):  # type: ignore[no-untyped-def]
    count = itertools.count()

    def attempt() -> str:
        if next(count) < times:
            raise Transient("connection refused", retry_after=retry_after)
        return result

    return attempt


def test_a_failure_that_passes_is_tried_again_after_growing_pauses(clock: Clock) -> None:
    assert RetryBudget("r.example", 30, clock.pause).run(failing(4)) == "done"
    assert clock.pauses == [0.5, 1, 2, 4]


def test_the_budget_ends_in_one_line_with_host_reason_attempts_and_seconds(clock: Clock) -> None:
    with pytest.raises(RegistryUnavailable) as caught:
        RetryBudget("r.example", 30, clock.pause).run(failing(100))
    assert str(caught.value).startswith(
        "r.example is unavailable: connection refused (7 attempts in 30.0 s, --retry-budget 30); "
    )
    assert isinstance(caught.value.__cause__, Transient)
    assert sum(clock.pauses) == 30


def test_no_budget_means_one_attempt(clock: Clock) -> None:
    with pytest.raises(RegistryUnavailable, match=r"\(1 attempt in 0\.0 s"):
        RetryBudget("r.example", 0, clock.pause).run(failing(1))
    assert clock.pauses == []


def test_22_retry_after_is_kept_to_once_beyond_the_budget_too(clock: Clock) -> None:
    assert RetryBudget("r.example", 30, clock.pause).run(failing(1, retry_after=120)) == "done"
    with pytest.raises(RegistryUnavailable, match=r"\(2 attempts in 60\.0 s"):
        RetryBudget("r.example", 30, clock.pause).run(failing(2, retry_after=60))
    assert clock.pauses == [120, 60]


def test_a_retry_after_of_more_than_two_minutes_counts_within_the_budget(clock: Clock) -> None:
    assert RetryBudget("r.example", 30, clock.pause).run(failing(1, retry_after=7)) == "done"
    with pytest.raises(RegistryUnavailable):
        RetryBudget("r.example", 30, clock.pause).run(failing(2, retry_after=3600))
    assert clock.pauses == [7, 30]


def test_22_a_pause_of_a_second_or_more_is_told(clock: Clock) -> None:
    told: list[str] = []
    assert RetryBudget("r.example", 30, clock.pause, told.append).run(failing(3)) == "done"
    assert clock.pauses == [0.5, 1, 2]
    assert told == [f"r.example: connection refused; it is asked again in {seconds} s" for seconds in (1, 2)]


def test_progress_starts_the_budget_anew(clock: Clock) -> None:
    budget = RetryBudget("r.example", 3, clock.pause)
    for _ in range(10):
        budget.wait_after(Transient("cut"))
        budget.restart()
    assert clock.pauses == [0.5] * 10
    assert budget.left() == 3
