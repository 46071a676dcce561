"""Looking at all stores of recovery points in bounded time, whatever state they are in."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from objects.places import open_store, parse_places
from objects.store import ObjectStore
from orchestration.backups.points.catalogue import Point, points
from zhiyun.logs import without_secrets
from zhiyun.settings import BackupSettings, S3Settings, StackSettings

TIMEOUT = 20.0  # seconds for all stores together

_waiting: dict[str, threading.Thread] = {}
"""Looks that have not come back, by URL: a dead network disk holds its thread for ever, and one is enough."""


def watched_stores(backup: BackupSettings, s3: S3Settings, stack: StackSettings) -> list[ObjectStore]:
    """The stores of BACKUP_STORES, the primary first, impatient: who only looks asks again soon."""
    hasty = s3.model_copy(update={"timeout": min(s3.timeout, 8.0), "attempts": min(s3.attempts, 2)})
    places = parse_places(backup.stores, "BACKUP_STORES", str(stack.home / "backups"))
    return [open_store(place, hasty, "BACKUP_STORES") for place in places]


def look(stores: Sequence[ObjectStore], timeout: float = TIMEOUT) -> dict[str, list[Point] | str]:
    """The points of each store, or a sentence why they are not known. Never raises for a store, and never waits longer."""
    found: dict[str, list[Point] | str] = {}
    ends = time.monotonic() + timeout
    started: list[tuple[ObjectStore, threading.Thread]] = []
    for store in stores:
        found[store.name] = f"{store.url} did not answer within {timeout:g} seconds."
        known = _waiting.get(store.url)
        if known and known.is_alive():
            continue
        thread = threading.Thread(target=_look, args=(store, found), name=f"look {store.name}", daemon=True)
        thread.start()
        _waiting[store.url] = thread
        started.append((store, thread))
    for store, thread in started:
        thread.join(max(ends - time.monotonic(), 0))
        if not thread.is_alive():
            _waiting.pop(store.url, None)
    return dict(found)  # a late answer changes another one


def _look(store: ObjectStore, found: dict[str, list[Point] | str]) -> None:
    try:
        found[store.name] = points(store)
    except Exception as error:  # whatever it is, the store cannot be looked at, and that is what to tell
        found[store.name] = without_secrets(str(error) or type(error).__name__)
