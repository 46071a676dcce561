"""Restoring a recovery point into a running platform: checked whole, made beside what is there, then swapped in.

Up to the swap nothing that customers use is touched, and what fails leaves no trace. The chat is fenced for the swap.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Generator
from collections.abc import Collection as AnyOf
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from knowledge.database import DatabaseUnavailable, writer
from objects.store import ObjectStore, ObjectStoreError
from orchestration.backups.database import restore as database_restore
from orchestration.backups.database import siblings
from orchestration.backups.database.server import database_errors
from orchestration.backups.files import restore as files_restore
from orchestration.backups.files.sources import Target, file_sources
from orchestration.backups.installation import Installation
from orchestration.backups.making.verify import PARTS, check
from orchestration.backups.points import catalogue
from orchestration.backups.recovery_point import BackupError, Manifest, VectorsPart
from orchestration.backups.restore import leftovers
from orchestration.backups.restore.cutover import cut_over, forget_later
from orchestration.backups.restore.reconcile import bring_up_to_date, reconcile
from orchestration.backups.restore.report import Report
from orchestration.backups.scratch import is_scratch
from orchestration.backups.timing import Timing
from orchestration.backups.undo import Undo
from orchestration.backups.vectors import restore as vectors_restore
from orchestration.backups.vectors.node import Node
from orchestration.exclusion import exclusive

WAIT = 600.0
"""Seconds that a restore waits for another operation to end."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,39}")


def restore(
    inst: Installation,
    store: ObjectStore,
    point: str,
    parts: AnyOf[str] = PARTS,
    *,
    into: str = "",
    overwrite_files: bool = False,
) -> Report:
    """Put parts of a point (`database`, `vectors`, `files`) in the place of what is live.

    With `into` nothing that is live is replaced: the database, collections and a folder of that name are made. Raises
    BackupError and what stands in `expected.EXPECTED`, one sentence each; the platform is then as it was. What could not be
    done after that is in the report's `problems`.
    """
    manifest = catalogue.find(store, point).manifest
    assert manifest is not None  # catalogue.find
    report = Report(manifest.id, Timing(inst.progress))
    with database_errors(), ExitStack() as held:
        kept_out = held.enter_context(
            exclusive(inst.database.admin, f"restore of {manifest.id}", wait=WAIT, say=inst.progress.say)
        )
        leftovers.sweep(inst)
        with report.timing.step("check"):
            check(inst, store, manifest, parts)
            _look_ahead(inst, manifest, parts, into)
        if into:
            _beside(inst, store, manifest, parts, into, report)
        else:
            no_ingestion = held.enter_context(_no_ingestion(inst, manifest.id))

            def still_held() -> None:
                kept_out()
                no_ingestion()

            _in_place(inst, store, manifest, parts, overwrite_files, report, held, still_held)
    return report


def _look_ahead(inst: Installation, manifest: Manifest, parts: AnyOf[str], into: str) -> None:
    """Whatever would stop a restore half-way, as far as it can be known before."""
    if into:
        _check_name(inst, into)
    if "database" in parts:
        database_restore.check(inst, manifest, into)
    if "vectors" in parts:
        with Node(inst.qdrant) as node:
            vectors_restore.check(node, manifest.vectors, into=into)
    if "files" in parts and not into:
        known = {source.name for source in file_sources(inst.backup, inst.knowledge, inst.s3)}
        missing = [source.name for source in manifest.files.sources if source.files and source.name not in known]
        if missing:
            raise BackupError(
                f"Recovery point {manifest.id} has files of {', '.join(missing)}, and BACKUP_FILES (or KNOWLEDGE_SOURCES) "
                "has no place of that name; name one, or leave files out with --only. Nothing was changed."
            )


def _check_name(inst: Installation, into: str) -> None:
    if not _NAME.fullmatch(into) or siblings.is_beside(inst.live_database, into) or is_scratch(into):
        raise BackupError(
            f"--into {into}: write a name of at most 40 letters, digits, `_` and `-`, that is none of those which restores "
            "and drills use themselves. Nothing was changed."
        )
    if os.path.lexists(into):
        raise BackupError(
            f"--into {into}: {Path(into).absolute()} is there already; choose another. Nothing was changed."
        )


def _beside(
    inst: Installation, store: ObjectStore, manifest: Manifest, parts: AnyOf[str], into: str, report: Report
) -> None:
    with Undo(inst.progress.say) as undo:
        if "database" in parts:
            report.notes += database_restore.make(inst, store, manifest.database("platform"), into, report.timing, undo)
            report.database = into
        if "vectors" in parts:
            with report.timing.step("vectors"):
                restored = _vectors(inst, store, manifest.vectors, into)
            undo.later(vectors_restore.discard, inst.qdrant, list(restored.names.values()))
            report.collections = restored.names
        if "files" in parts:
            with report.timing.step("files"):
                folder = Path(into).absolute()
                folder.mkdir()
                undo.later(shutil.rmtree, folder)
                targets: dict[str, Target] = {source.name: folder / source.name for source in manifest.files.sources}
                report.files = _files(inst, store, manifest, targets, overwrite=False)
                report.notes.append(f"The files are in {folder}.")
        undo.keep()


def _in_place(
    inst: Installation,
    store: ObjectStore,
    manifest: Manifest,
    parts: AnyOf[str],
    overwrite_files: bool,
    report: Report,
    held: ExitStack,
    still_held: Callable[[], None],
) -> None:
    now, reason = datetime.now(UTC), f"restore of {manifest.id}"
    new = database_restore.beside(inst, "restore", now) if "database" in parts else ""
    with Undo(inst.progress.say) as undo:
        restored: vectors_restore.Restored | None = None
        if new:
            report.notes += database_restore.make(inst, store, manifest.database("platform"), new, report.timing, undo)
            report.notes += bring_up_to_date(inst, new)
        if "vectors" in parts:
            with report.timing.step("vectors"):
                restored = _vectors(inst, store, manifest.vectors, "")
            undo.later(vectors_restore.discard, inst.qdrant, list(restored.names.values()))
            report.collections, report.replaced = restored.names, restored.replaced
            report.notes += [
                f"The collection {name} is not of this knowledge base and was left alone; --into restores it beside."
                for name in restored.left_alone
            ]
        if new or restored:
            with (
                report.timing.step("vectors and record"),
                inst.connect(new or inst.live_database, reason) as catalog,
            ):
                report.notes += reconcile(inst, catalog, restored, undo)

            def switch(undo: Undo) -> None:
                if restored:
                    switched = vectors_restore.switch(inst.qdrant, manifest.vectors, restored)
                    undo.later(vectors_restore.switch_back, inst.qdrant, switched)

            aside = database_restore.beside(inst, "before", now) if new else ""
            with report.timing.step("swap"):
                catalog, report.kept = cut_over(
                    inst, reason, undo, held, still_held, new=new, aside=aside, switch=switch
                )
            report.database = inst.live_database if new else ""
            if restored is None and (problem := forget_later(inst, catalog)):
                report.notes.append(problem)
    if "files" in parts:  # last: what fails before must not have written into the documents
        _files_in_place(inst, store, manifest, overwrite_files, report)


def _files_in_place(
    inst: Installation, store: ObjectStore, manifest: Manifest, overwrite: bool, report: Report
) -> None:
    sources: dict[str, Target] = {source.name: source for source in file_sources(inst.backup, inst.knowledge, inst.s3)}
    try:
        with report.timing.step("files"):
            report.files = _files(inst, store, manifest, sources, overwrite=overwrite)
    except (BackupError, ObjectStoreError) as error:
        if not (report.database or report.collections):
            raise
        report.problems.append(
            f"Not all files are back ({error}); the rest is in force. `zhiyun restore {manifest.id} --only files` goes on."
        )
    else:
        report.problems += report.files.problems


def _vectors(inst: Installation, store: ObjectStore, part: VectorsPart, into: str) -> vectors_restore.Restored:
    return vectors_restore.restore(
        inst.qdrant, part, store, keys=inst.keys, into=into, say=inst.progress.say, progress=inst.progress.add
    )


def _files(
    inst: Installation, store: ObjectStore, manifest: Manifest, targets: dict[str, Target], *, overwrite: bool
) -> files_restore.Restored:
    return files_restore.restore(store, manifest.files, targets, overwrite, inst.progress.add, keys=inst.keys)


@contextmanager
def _no_ingestion(inst: Installation, point: str) -> Generator[Callable[[], object]]:
    """Hold the writer lock of the live database, if there is one that answers; gives a call that raises if it is lost."""
    try:
        connection = inst.catalog(f"restore of {point}")
    except DatabaseUnavailable as error:
        inst.progress.say(f"the live database does not answer, so nobody is kept from writing into it ({error})")
        yield lambda: None
        return
    with connection, writer(connection, wait=WAIT, say=inst.progress.say):
        yield lambda: connection.execute("SELECT 1")
