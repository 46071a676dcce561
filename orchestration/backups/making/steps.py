"""Making a recovery point: database, vectors, files; the manifest last; then the copies; then reading it all back."""

from __future__ import annotations

import importlib.metadata
import time
import uuid
from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from knowledge.database import DatabaseUnavailable, writer
from objects.store import ObjectStore, ObjectStoreError
from orchestration.backups.attempt import Attempt, By, attempt
from orchestration.backups.database import capture as database_capture
from orchestration.backups.database.server import words
from orchestration.backups.expected import EXPECTED
from orchestration.backups.files import capture as files_capture
from orchestration.backups.files import inventory
from orchestration.backups.files.sources import file_sources
from orchestration.backups.installation import Installation
from orchestration.backups.making import copy, golden
from orchestration.backups.making.verify import verify_everywhere
from orchestration.backups.points import catalogue
from orchestration.backups.recovery_point import (
    FORMAT,
    BackupError,
    FilesPart,
    GoldenPart,
    Manifest,
    PointDamaged,
    PostgresPart,
    VectorsPart,
)
from orchestration.backups.scratch import is_scratch
from orchestration.backups.vectors import capture as vectors_capture
from orchestration.capacity.guard import room_to_work
from orchestration.exclusion import Busy, exclusive
from zhiyun.settings import CapacitySettings, load

WAIT = 1800.0
"""Seconds that a backup waits for another operation to end."""


@dataclass(frozen=True)
class Made:
    """A point; and for each store why it is not verified there, empty where it is."""

    manifest: Manifest
    problems: dict[str, str]

    @property
    def good(self) -> bool:
        return not any(self.problems.values())


def make(inst: Installation, point: str, by: By) -> Made:
    """Make a point, copy it to every other store, and verify each. Nobody else writes meanwhile.

    Raises BackupError, Busy, AnotherWriter, DatabaseUnavailable or ObjectStoreError, each one sentence; earlier points
    are then untouched, and why it failed is written into the primary store. A copy that fails is told in the result.
    """
    one = attempt(point, uuid.uuid4().hex, by)
    with failure_noted(inst, point), ExitStack() as held:
        held.enter_context(exclusive(inst.database.admin, f"backup of {point}", wait=WAIT, say=inst.progress.say))
        with quiet_knowledge(inst, point):
            capture_postgres(inst, one)
            capture_vectors(inst, one)
            capture_files(inst, one)
        manifest = commit(inst, one)
        problems = {store.name: why for store, why in copy_everywhere(inst, manifest).items() if why}
        problems |= verify_everywhere(inst, point)
    return Made(manifest, problems)


@contextmanager
def failure_noted(inst: Installation, point: str) -> Generator[None]:
    """Write into the primary store why a try did not become a point."""
    try:
        yield
    except Busy:  # another operation has the night; it is not a try that failed
        raise
    except EXPECTED as error:
        catalogue.write_failure(inst.primary, point, str(error))
        raise
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        reason = (
            f"DATABASE_URL: the database went away during the backup ({words(error)}). Earlier points are untouched."
        )
        catalogue.write_failure(inst.primary, point, reason)
        raise DatabaseUnavailable(reason) from error


@contextmanager
def quiet_knowledge(inst: Installation, point: str) -> Generator[None]:
    """No ingestion while database and vectors are captured, so that they are of one release. Waits for one that runs.

    Raises psycopg.OperationalError where the session that keeps it out did not last as long.
    """
    with (
        closing(inst.catalog(f"backup of {point}")) as connection,
        writer(connection, wait=WAIT, say=inst.progress.say),
    ):
        yield
        connection.execute("SELECT 1")


def capture_postgres(inst: Installation, one: Attempt) -> PostgresPart:
    """Databases first: what comes later is derived, or lies on. Raises NoRoom where a disk is past critical.

    A disk of copies is not looked at: where it is full the copy fails, and the point is there all the same.
    """
    url = inst.primary.url
    room_to_work(
        load(CapacitySettings), beside=[Path(url.removeprefix("file://"))] if url.startswith("file://") else []
    )
    return one.step(inst.primary, "postgres", lambda: database_capture.capture(inst, one))


def capture_vectors(inst: Installation, one: Attempt) -> VectorsPart:
    """Vectors, and what the live release answers to the golden questions now."""
    inst.progress.step("vector store")
    part = one.step(
        inst.primary,
        "vectors",
        lambda: vectors_capture.capture(
            inst.qdrant, inst.primary, one.prefix, keys=inst.keys, say=inst.progress.say, progress=inst.progress.add,
            skip=is_scratch,
        ),
    )  # fmt: skip
    inst.progress.step("golden questions")
    answers = golden.capture(inst, one)
    if answers:
        one.note(inst.primary, "golden", answers, datetime.now(UTC), 0.0)
    return part


def capture_files(inst: Installation, one: Attempt) -> FilesPart:
    inst.progress.step("file store")
    before = [point for point in catalogue.points(inst.primary) if point.manifest and not point.later]
    newest = before[0] if before else None
    earlier = inventory.entries(inst.primary, newest.manifest.files, inst.keys) if newest and newest.manifest else ()
    sources = file_sources(inst.backup, inst.knowledge, inst.s3)
    return one.step(
        inst.primary,
        "files",
        lambda: files_capture.capture(
            sources, inst.primary, one.prefix, earlier, inst.keys, inst.progress.add,
            # After a point that could not be read back nothing that lies there is believed.
            check_existing=newest is not None and newest.state == "failed",
        ),
    )  # fmt: skip


def commit(inst: Installation, one: Attempt) -> Manifest:
    """Write the manifest from what the steps of this try have made: from here on the point exists."""
    store = inst.primary
    database, began, postgres_seconds = one.made(store, "postgres", PostgresPart)
    collections, _, vectors_seconds = one.made(store, "vectors", VectorsPart)
    content, _, files_seconds = one.made(store, "files", FilesPart)
    try:
        golden = one.made(store, "golden", GoldenPart)[0]
    except BackupError:
        golden = None  # no golden set, or nothing is live
    manifest = Manifest(
        format=FORMAT,
        id=one.point,
        made_at=began,
        by=one.by,
        zhiyun=importlib.metadata.version("zhiyun"),
        postgres=database,
        vectors=collections,
        files=content,
        golden=golden,
        key=inst.keys.fingerprint if inst.keys else "",
        seconds={"postgres": postgres_seconds, "vectors": vectors_seconds, "files": files_seconds},
    )
    catalogue.write_manifest(store, manifest)
    try:
        store.delete(one.step_keys())
    except ObjectStoreError as error:
        inst.progress.say(f"notes of the steps are left to be swept: {error}")
    return manifest


def copy_everywhere(inst: Installation, manifest: Manifest) -> dict[ObjectStore, str]:
    """Copy a point into every other store; gives why it failed, empty where it did not."""
    outcomes: dict[ObjectStore, str] = {}
    for store in inst.stores[1:]:
        inst.progress.step(f"copy to {store.name}")
        began = time.monotonic()
        try:
            copy.copy(inst, manifest, inst.primary, store)
        except (ObjectStoreError, PointDamaged) as error:
            outcomes[store] = f"not copied: {error}"
            catalogue.write_failure(store, manifest.id, str(error))
        else:
            outcomes[store] = ""
            inst.progress.say(f"copied to {store.name} in {time.monotonic() - began:.0f} s")
    return outcomes
