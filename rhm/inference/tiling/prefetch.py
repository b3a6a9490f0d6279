"""Prefetching: a thread computes the items of an iterator in advance."""

import queue
import threading
from collections.abc import Generator, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")

_PATIENCE_S = 0.1


def ahead(items: Iterator[Item], size: int) -> Generator[Item, None, None]:
    """Yield the items of an iterator, up to ``size`` of which a thread computes in advance.

    The thread ends when this generator is exhausted or closed. An error of the iterator is raised
    here, after the items that preceded it.

    Args:
        items: iterator, which only the thread uses.
        size: maximum number of items that wait, at least 1.
    """
    maker = _Maker(items, size)
    maker.start()
    try:
        while (result := maker.results.get()) is not None:
            if isinstance(result, _Failure):
                raise result.error
            yield result.item
    finally:
        maker.stopped.set()
        maker.join()


class _Made(Generic[Item]):
    def __init__(self, item: Item) -> None:
        self.item = item


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error


class _Maker(threading.Thread, Generic[Item]):
    """Thread that puts the items of an iterator into a queue, and None after the last one."""

    def __init__(self, items: Iterator[Item], size: int) -> None:
        super().__init__(name="rhm-ahead", daemon=True)
        self._items = items
        self.results: queue.Queue[_Made[Item] | _Failure | None] = queue.Queue(size)
        self.stopped = threading.Event()

    def run(self) -> None:
        try:
            for item in self._items:
                self._offer(_Made(item))
                if self.stopped.is_set():
                    return
        except BaseException as error:  # noqa: BLE001 - raised again in the consuming thread
            self._offer(_Failure(error))
        else:
            self._offer(None)

    def _offer(self, result: _Made[Item] | _Failure | None) -> None:
        while not self.stopped.is_set():
            try:
                return self.results.put(result, timeout=_PATIENCE_S)
            except queue.Full:
                continue
