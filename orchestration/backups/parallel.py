"""Many small jobs on some threads, with their results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
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


def _result(item: Future[Result] | Result) -> Result:
    return cast("Future[Result]", item).result() if isinstance(item, Future) else item
