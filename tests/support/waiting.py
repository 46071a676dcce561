"""Waiting for what a test needs to have happened: for the event, and never for a number of seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psycopg


def until(check: Callable[[], Any], seconds: float = 90, pause: float = 0.1) -> Any:
    """What `check` gives once that is true. Fails with what it gave last if that takes longer than `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        result = check()
        if result:
            return result
        assert time.monotonic() < deadline, f"still not so: {result!r}"
        time.sleep(pause)


def until_blocked(url: str, seconds: float) -> None:
    """Until a statement in the URL's database has waited for another session's lock so long; `url` is a superuser's."""
    until_true(
        url,
        "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted "
        f"AND a.datname = current_database() AND l.waitstart < clock_timestamp() - interval '{seconds} s'",
    )


def until_true(url: str, query: str) -> None:
    """Until the query's first value is neither zero, false nor null."""
    with psycopg.connect(url, autocommit=True) as connection:
        until(lambda: (connection.execute(query.encode()).fetchone() or (None,))[0])
