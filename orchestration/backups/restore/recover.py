"""Disaster recovery: one recovery point, whole, into an empty environment, verified before anybody is told to use it.

The operators' manual moves DNS before it verifies; here the checklist comes last.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from knowledge.models import registry
from knowledge.releases import recovery
from orchestration.backups.database import restore as database_restore
from orchestration.backups.database import roles
from orchestration.backups.database.server import database_errors
from orchestration.backups.files import restore as files_restore
from orchestration.backups.files.sources import Target, file_sources
from orchestration.backups.installation import Installation
from orchestration.backups.making import golden
from orchestration.backups.making.verify import check
from orchestration.backups.points import catalogue, record
from orchestration.backups.recovery_point import BackupError, Manifest
from orchestration.backups.restore import leftovers
from orchestration.backups.restore.recovery_report import Report
from orchestration.backups.streams.blobs import read_blob
from orchestration.backups.timing import Timing
from orchestration.backups.undo import Undo
from orchestration.backups.vectors import restore as vectors_restore
from orchestration.backups.vectors.node import Node
from orchestration.exclusion import exclusive
from zhiyun.settings import StackSettings, load


def recover(inst: Installation, point: str) -> Report:
    """Restore databases, files and vectors of a point from the primary store, and verify all of it.

    Raises BackupError and what stands in `expected.EXPECTED` when it cannot be done: the environment is then as empty as it
    was, but for files that were written. What was restored and is not right is in `problems`.
    """
    say = inst.progress.say
    found = catalogue.find(inst.primary, point)
    manifest = found.manifest
    assert manifest is not None  # catalogue.find
    report = Report(manifest.id, manifest.made_at, inst.primary.url, Timing(inst.progress))
    timing = report.timing
    _hook(inst.backup.before_recover, "BACKUP_BEFORE_RECOVER", report)
    with (
        database_errors(),
        exclusive(inst.database.admin, f"recovery of {manifest.id}", say=say) as still_held,
        Undo(say) as undo,
    ):
        with timing.step("check"):
            _require_empty(inst)
            check(inst, inst.primary, manifest)
            database_restore.check(inst, manifest, "")
        with timing.step("roles"):
            statements = read_blob(inst.primary, manifest.postgres.globals_, keys=inst.keys)
            report.notes += _roles(inst, statements)
        now = datetime.now(UTC)
        made: list[tuple[str, str]] = []  # database as it was made, and the name that it gets
        for database in manifest.postgres.databases:
            name = inst.name_of(database.role)
            if not database_restore.is_here(inst, database.role):
                report.notes.append(
                    f"DAGSTER_DATABASE_URL is on another server than DATABASE_URL: restore {database.dump.key} there by hand "
                    "(zstd -d, then pg_restore), or let Dagster begin with an empty history."
                )
                continue
            new = database_restore.beside(inst, "restore", now, name)
            report.notes += database_restore.make(inst, inst.primary, database, new, timing, undo)
            report.rows += sum(table.rows for table in database.tables)
            made.append((new, name))
        platform = made[0][0]
        with timing.step("vectors"), inst.connect(platform, "recovery") as catalog:
            recorded = recovery.recorded_collections(catalog) | {one.name for one in manifest.vectors.collections}
            leftovers.note_recovery(inst, platform, manifest.id, sorted(recorded))
            names = _vectors(inst, manifest, catalog, report, undo)
        with timing.step("files"):
            targets: dict[str, Target] = {
                source.name: source for source in file_sources(inst.backup, inst.knowledge, inst.s3)
            }
            missing = [one.name for one in manifest.files.sources if one.files and one.name not in targets]
            for name in missing:
                targets[name] = load(StackSettings).home / "recovered-files" / name
                report.notes.append(f"BACKUP_FILES names no place {name!r}: its files are in {targets[name]}.")
            brought = files_restore.restore(
                inst.primary, manifest.files, targets, False, inst.progress.add, keys=inst.keys
            )
            report.files = brought.written + brought.unchanged + brought.kept_newer
            report.problems += brought.problems
            report.problems += _missing(report.files, manifest)
        with timing.step("golden questions"), inst.connect(platform, "recovery") as catalog:
            report.golden = golden.replay(inst, catalog, manifest, inst.primary, names)
        if report.golden and report.golden.problem:
            report.problems.append(f"{report.golden.problem}.")
        with timing.step("swap"):
            still_held()
            with inst.connect(platform, "recovery") as catalog:
                recovery.publish_again(catalog, inst.collections())
            database_restore.put_in_place(inst, made, now)  # last: from here on the environment is not empty
            undo.keep()
    record.bring_up_to_date(inst)
    if not report.problems:
        _hook(inst.backup.after_recover, "BACKUP_AFTER_RECOVER", report)
    _write(report)
    return report


def _vectors(
    inst: Installation, manifest: Manifest, catalog: recovery.Connection, report: Report, undo: Undo
) -> dict[str, str]:
    """Restore the collections, or write them from the database where their snapshots do not fit; gives their names here."""
    collections = inst.collections()

    def load_model(fingerprint: str) -> registry.RetrievalModel:
        return registry.load_model(catalog, fingerprint)

    keep, say = inst.knowledge.releases_kept, inst.progress.say
    with Node(inst.qdrant) as node:
        problem = vectors_restore.misfit(node, manifest.vectors)
    if problem:
        report.notes.append(f"{problem} They were written from the database.")
        names = recovery.rebuild(catalog, collections, load_model, keep, say)
        undo.later(vectors_restore.discard, inst.qdrant, list(names.values()))
    else:
        restored = vectors_restore.restore(
            inst.qdrant, manifest.vectors, inst.primary, keys=inst.keys, say=say, progress=inst.progress.add
        )
        names = restored.names
        undo.later(vectors_restore.discard, inst.qdrant, list(names.values()))
        report.notes += recovery.settle(catalog, collections, load_model, keep, say)
        switched = vectors_restore.switch(inst.qdrant, manifest.vectors, restored)
        undo.later(vectors_restore.switch_back, inst.qdrant, switched)
    report.points = sum(collections.size(name) for name in names.values())
    return names


def _missing(files: int, manifest: Manifest) -> list[str]:
    if files == manifest.files.files:
        return []
    return [f"{files} files are here, and the point has {manifest.files.files}."]


def _roles(inst: Installation, statements: Iterator[bytes]) -> list[str]:
    done = roles.apply_globals(inst.database.admin, statements)
    notes = [
        f"The role {name} was created, without a password: give it one (ALTER ROLE … PASSWORD …)."
        for name in done.created
    ]
    return notes + [f"Missing here: {what}." for what in done.missing]


def _require_empty(inst: Installation) -> None:
    for name in {inst.name_of(role) for role in ("platform", "dagster") if database_restore.is_here(inst, role)}:
        tables = database_restore.tables(inst, name)
        if tables:
            raise BackupError(
                f"`zhiyun recover` is for an empty environment, and the database {name} has {tables} tables; use `zhiyun restore`, or set DATABASE_URL and ZHIYUN_HOME to an empty one. Nothing was changed."
            )
    leftovers.sweep_recovery(inst)  # of one that was killed; nothing is live here
    with Node(inst.qdrant) as node:
        names = node.names()
    if names:
        raise BackupError(
            f"`zhiyun recover` is for an empty environment, and the vector store at QDRANT_URL={inst.qdrant.url} has the "
            f"collection {names[0]}; use `zhiyun restore`, or delete it. Nothing was changed."
        )


def _hook(command: str, variable: str, report: Report) -> None:
    """Run the operator's own command. Raises BackupError if one that comes before anything is touched fails."""
    if not command.strip():
        return
    with report.timing.step(variable.lower()):
        done = subprocess.run(command, shell=True, check=False)  # noqa: S602 - a shell's line, of the operator
    if done.returncode == 0:
        return
    said = f"{variable} ended with status {done.returncode}"
    if variable == "BACKUP_BEFORE_RECOVER":
        raise BackupError(f"{said}; nothing was touched.")
    report.after = f"{said}; do by hand what it was to do."


def _write(report: Report) -> None:
    """Keep the report, with the times, where the logs of this installation are."""
    folder = load(StackSettings).home
    file = folder / f"recovery-{report.point}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        Path(file).write_text(json.dumps(report.as_dict(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        report.notes.append(f"The report could not be written to {file}: {error.strerror}.")
    else:
        report.written = str(file)
