"""Work on other threads, with its results in order."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar, cast

Result = TypeVar("Result")

THREADS = 8
"""As many as hide the round trips to a store; more only contend for the two cores that a small machine has."""
_AHEAD = 64  # results that may wait for an earlier one


def ordered(jobs: Iterable[Callable[[], Result] | Result], threads: int = THREADS) -> Iterator[Result]:
    """The results of the jobs in the jobs' order; what is no function is a result already.

    `jobs` is read only a little ahead, so it may be endless. The first exception ends everything.
    """
    waiting: deque[Future[Result] | Result] = deque()
    pool = ThreadPoolExecutor(threads, "files")
    try:
        for job in jobs:
            waiting.append(pool.submit(cast("Callable[[], Result]", job)) if callable(job) else job)
            if len(waiting) > _AHEAD:
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def ahead(items: Iterable[Result], count: int = 4) -> Generator[Result]:
    """The same items, which a thread takes from `items` while the caller works; at most `count` wait.

    What `items` raises comes where it would have come. Closing this waits for the item that is being taken, and leaves
    `items` open.
    """
    waiting: queue.Queue[tuple[Result] | BaseException | None] = queue.Queue(count)
    unwanted = threading.Event()

    def take() -> None:
        end: BaseException | None = None
        try:
            for item in items:
                waiting.put((item,))
                if unwanted.is_set():
                    return
        except BaseException as error:
            end = error
        waiting.put(end)

    thread = threading.Thread(target=take, name="ahead", daemon=True)
    thread.start()
    try:
        while (item := waiting.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item[0]
    finally:
        unwanted.set()
        while thread.is_alive():  # it may wait for room
            try:
                waiting.get(timeout=0.02)
            except queue.Empty:
                continue
        thread.join()


def _result(item: Future[Result] | Result) -> Result:
    return cast("Future[Result]", item).result() if isinstance(item, Future) else item
