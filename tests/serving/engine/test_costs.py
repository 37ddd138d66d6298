from __future__ import annotations

import pytest

from runtime.serving.engine.costs import Costs

LIMIT = 0.0003


def test_an_unknown_size_is_not_cheap_until_four_calls_have_shown_it():
    costs = Costs(LIMIT)
    for _ in range(4):
        assert not costs.cheap(7)
        costs.ran_in_thread(7, 0.0001)
    assert costs.cheap(7)
    assert not costs.cheap(8)


def test_the_least_of_the_calls_counts_in_a_thread_since_any_may_have_waited():
    costs = Costs(LIMIT)
    for seconds in (0.01, 0.02, 0.0001, 0.5):
        costs.ran_in_thread(3, seconds)
    assert costs.cheap(3)


def test_a_hiccup_proves_nothing_but_several_in_a_row_do():
    costs = Costs(LIMIT)
    costs.seed(3, 0.00005)
    hiccups = 0
    while costs.cheap(3):
        costs.ran_inline(3, 0.01)
        hiccups += 1
    assert 2 < hiccups < 8


def test_one_call_that_holds_the_loop_for_long_is_enough():
    costs = Costs(LIMIT)
    costs.seed(3, 0.00005)
    costs.ran_inline(3, 0.05)
    assert not costs.cheap(3)


def test_a_size_that_turned_out_slow_needs_more_proof_each_time():
    costs = Costs(LIMIT)
    costs.seed(3, 0.0001)
    needed = []
    for _ in range(6):
        while costs.cheap(3):
            costs.ran_inline(3, 10.0)
        calls = 0
        while not costs.cheap(3):
            costs.ran_in_thread(3, 0.0001)
            calls += 1
        needed.append(calls)
    assert needed == [4, 8, 16, 32, 64, 64]  # seeded long ago: the first time is not held against it


def test_a_warm_up_speaks_for_smaller_inputs_only():
    costs = Costs(LIMIT)
    costs.seed(5, 0.0001)
    assert [costs.cheap(size) for size in (0, 4, 5, 6)] == [True, True, True, False]


@pytest.mark.parametrize("limit", [LIMIT, 3 * LIMIT], ids=["threadsafe", "serial"])
def test_where_calls_may_be_joined_only_the_shortest_do_not_gain_from_a_batch(limit: float):
    costs = Costs(limit)
    costs.seed(4, 0.00004)
    costs.seed(3, 0.00002)
    assert (costs.cheap(3), costs.cheap(4)) == (True, True)
    costs.may_join()
    assert (costs.cheap(3), costs.cheap(4)) == (True, False)
    assert costs.short(4)


def test_a_batch_that_was_short_shows_that_each_of_its_calls_is_and_a_long_one_shows_nothing():
    costs = Costs(LIMIT)
    costs.seed(3, 0.0001)
    for seconds in (0.05, 0.002, 0.002, 0.002, 0.002):
        costs.held_loop(3, seconds)
        costs.ran_joined(3, seconds)
    assert not costs.short(3)
    for _ in range(4):
        costs.ran_joined(3, 0.0002)
    assert costs.short(3)
    costs.seed(3, 0.0001)
    costs.ran_joined(3, 0.0002)
    assert costs.cheap(3)
