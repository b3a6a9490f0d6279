"""Work done ahead, in a thread of its own, while its results are waited for elsewhere."""

import queue
import threading
from collections.abc import Generator, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")

_PATIENCE_S = 0.1


def ahead(items: Iterator[Item], size: int) -> Generator[Item, None, None]:
    """Yield what an iterator yields, having up to ``size`` items made in advance by a thread.

    The thread ends with this generator, used up or closed early. An error of the iterator is
    raised here, after the items before it.

    Args:
        items: is only used by the thread.
        size: items that may wait, at least 1.
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
    """Puts what an iterator yields into a queue, and None when there is no more."""

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
        except BaseException as error:  # noqa: BLE001 - it is raised again where it matters
            self._offer(_Failure(error))
        else:
            self._offer(None)

    def _offer(self, result: _Made[Item] | _Failure | None) -> None:
        while not self.stopped.is_set():
            try:
                return self.results.put(result, timeout=_PATIENCE_S)
            except queue.Full:
                continue
