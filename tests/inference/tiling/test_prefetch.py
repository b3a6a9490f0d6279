"""Prefetching; laws: the same items in the same order, and no thread is left behind."""

import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhm.inference.tiling.prefetch import ahead


def makers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "rhm-ahead"]


@given(st.lists(st.none() | st.integers()), st.integers(1, 5))
def test_items_come_as_the_iterator_gives_them(items: list[int | None], size: int) -> None:
    assert list(ahead(iter(items), size)) == items
    assert makers() == []


def test_no_more_are_made_than_may_wait() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    results = ahead(items(), 3)
    assert next(results) == 0
    time.sleep(0.3)
    # One was taken, three wait, and one is in the maker's hand.
    assert 1 < len(made) <= 5
    results.close()
    assert makers() == []


def test_an_error_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise OSError("torn")

    results = ahead(items(), 2)
    seen = [next(results) for _ in range(3)]
    with pytest.raises(OSError, match="torn"):
        next(results)
    assert seen == [0, 1, 2]
    assert makers() == []


def test_the_iterator_runs_in_another_thread() -> None:
    names = list(ahead((threading.current_thread().name for _ in range(2)), 1))
    assert names == ["rhm-ahead"] * 2
