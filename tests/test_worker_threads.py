"""Threads that work ahead: results in order, bounded work ahead; the first failure ends it."""

import threading
import time
from collections.abc import Iterator

import pytest

from rhm.worker_threads import in_order, usable_cores


def test_results_come_in_the_order_of_the_items() -> None:
    def task(item: int) -> int:
        time.sleep(0.002 * (7 - item % 8))
        return item * item

    for workers in (1, 3, 8):
        assert list(in_order(task, range(20), workers)) == [item * item for item in range(20)]


def test_no_more_than_twice_the_workers_are_begun_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    results = in_order(lambda item: item, items(), 2)
    for expected in range(5):
        assert next(results) == expected
        assert len(taken) <= expected + 4
    results.close()  # type: ignore[attr-defined]
    assert len(taken) <= 8


def test_the_first_failure_in_order_ends_it_and_cancels_the_rest() -> None:
    begun: list[int] = []
    lock = threading.Lock()

    def task(item: int) -> int:
        with lock:
            begun.append(item)
        if item in (3, 5):
            raise ValueError(str(item))
        return item

    found: list[int] = []
    results = in_order(task, range(1000), 2)
    with pytest.raises(ValueError, match="3"):
        found.extend(results)
    assert found == [0, 1, 2]
    assert max(begun) < 12


def test_there_is_at_least_one_core() -> None:
    assert usable_cores() >= 1
