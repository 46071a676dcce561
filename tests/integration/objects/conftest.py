"""Stores of every kind, a disk that is soon full, and a bucket behind a wire that fails as it is told to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from objects.places import Place, open_store
from objects.s3 import S3Objects
from objects.store import ObjectStore
from tests.support.faults import small_disk as small_disks
from tests.support.faults.s3_faults import Faults, faulty
from tests.support.object_stores import behind
from zhiyun.settings import S3Settings


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    kind: Literal["folder", "s3"] = request.param
    if kind == "folder":
        return Place("primary", f"file://{tmp_path / 'store'}")
    return Place("primary", f"s3://{request.getfixturevalue('s3_bucket')}/some/prefix")


@pytest.fixture
def store(place: Place, request: pytest.FixtureRequest) -> ObjectStore:
    settings = request.getfixturevalue("s3_settings") if place.url.startswith("s3://") else S3Settings()
    return open_store(place, settings, "BACKUP_STORES")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    with small_disks.small_disk(tmp_path / "disk", 2) as disk:
        yield disk.path


@pytest.fixture
def wire(s3_server: str) -> Iterator[Faults]:
    with faulty(s3_server) as wire:
        yield wire


@pytest.fixture
def bucket(wire: Faults, s3_bucket: str, s3_settings: S3Settings) -> S3Objects:
    """A store behind the wire, with an object `old`."""
    store = behind(wire, s3_bucket, s3_settings)
    store.put("old", [b"old"])
    return store
