"""What tests put into object stores, how they look at them, and a process that has one open."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta

import pytest

from objects.places import Place
from objects.s3 import S3Objects
from objects.store import ObjectStore, ObjectStoreError
from tests.support.faults.s3_faults import Faults
from zhiyun.repository import REPOSITORY
from zhiyun.settings import S3Settings

MEBIBYTE = 1 << 20
NOW = timedelta(0)


# Opens the store that its arguments name (place, endpoint) and does `{action}` with it.
PROGRAM = """
import sys
from pathlib import Path
from objects.places import Place, open_store
from zhiyun.settings import S3Settings
settings = S3Settings(endpoint_url=sys.argv[2], access_key_id="zhiyun", secret_access_key="a-secret")
store = open_store(Place("primary", sys.argv[1]), settings, "BACKUP_STORES")
def memory():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024
"""


class Broken(Exception):
    """What a source of bytes raises."""


def content(store: ObjectStore, key: str) -> bytes:
    return b"".join(store.read(key))


def keys(store: ObjectStore, prefix: str = "") -> list[str]:
    return [found.key for found in store.list(prefix)]


def noise(mebibytes: int) -> Iterator[bytes]:
    for number in range(mebibytes):
        yield hashlib.sha256(str(number).encode()).digest() * (MEBIBYTE // 32)


def breaking_off(after: int) -> Iterator[bytes]:
    yield from noise(after)
    raise Broken("the source broke off")


def one_sentence(error: ObjectStoreError, *words: str) -> None:
    text = str(error)
    assert "\n" not in text
    assert text.endswith(".")
    assert "a-secret" not in text
    for word in words:
        assert word in text


def program(action: str, place: Place, request: pytest.FixtureRequest) -> subprocess.Popen[bytes]:
    """A process of its own with the store open."""
    endpoint = request.getfixturevalue("s3_server") if place.url.startswith("s3://") else ""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM + action, place.url, endpoint],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )


def behind(wire: Faults, bucket: str, settings: S3Settings, timeout: float = 20) -> S3Objects:
    # A busy machine takes seconds to answer: a short timeout is for the test of slowness only.
    changed = settings.model_copy(update={"endpoint_url": wire.url, "attempts": 2, "timeout": timeout})
    return S3Objects("offsite", bucket, "zhiyun", changed, "BACKUP_STORES")
