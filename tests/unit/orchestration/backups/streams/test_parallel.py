"""Work on other threads: in order, no further ahead than it may be, and errors where they belong."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from orchestration.backups.streams.parallel import ahead


def test_what_is_taken_ahead_comes_in_order_and_so_does_an_error() -> None:
    def items() -> Iterator[int]:
        yield from range(100)
        raise ValueError("it broke off")

    seen: list[int] = []
    with pytest.raises(ValueError, match="it broke off"):
        seen.extend(ahead(items()))
    assert seen == list(range(100))


def test_no_more_is_taken_ahead_than_may_wait_and_the_rest_can_be_taken_by_others() -> None:
    numbers = iter(range(1000))
    taken = ahead(numbers, 3)
    assert next(taken) == 0
    time.sleep(0.1)
    taken.close()
    left = list(numbers)
    assert 990 <= len(left) <= 998
    assert left[-1] == 999
