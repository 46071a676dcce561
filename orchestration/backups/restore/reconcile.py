"""A record and the vector store from different moments, brought together before customers read either."""

from __future__ import annotations

import os
import subprocess
import sys

from knowledge.database import Connection
from knowledge.models import registry
from knowledge.releases import recovery
from orchestration.backups.database.server import connected, on_database, one
from orchestration.backups.installation import Installation
from orchestration.backups.recovery_point import BackupError
from orchestration.backups.undo import Undo
from orchestration.backups.vectors import restore as vectors_restore


def reconcile(
    inst: Installation, catalog: Connection, restored: vectors_restore.Restored | None, undo: Undo
) -> list[str]:
    """Make collections that are not read yet hold what the record says, and the record know them by their names.

    Without restored ones: those that are there serve if they have the record's live release whole; else new ones are
    written from the database, beside them. Says what had to be done.
    """
    collections = inst.collections()

    def load_model(fingerprint: str) -> registry.RetrievalModel:
        return registry.load_model(catalog, fingerprint)

    keep, say = inst.knowledge.releases_kept, inst.progress.say
    try:
        if restored is not None:
            _rename(inst, catalog, recovery.names_by_model(catalog, collections, restored.names, keep), undo)
            return recovery.settle(catalog, collections, load_model, keep, say)
        if recovery.is_whole(catalog, collections):
            return []
        names = recovery.rebuild(catalog, collections, load_model, keep, say)
        undo.later(vectors_restore.discard, inst.qdrant, list(names.values()))
        _rename(inst, catalog, names, undo)
        return [f"The collections were written again from the database: {', '.join(names.values())}."] if names else []
    finally:
        collections.close()


def _rename(inst: Installation, catalog: Connection, names: dict[str, str], undo: Undo) -> None:
    recovery.rename_in_record(catalog, names)
    undo.later(_rename_back, inst, catalog.info.dbname, names)


def _rename_back(inst: Installation, database: str, names: dict[str, str]) -> None:
    with inst.connect(database, "restore that is taken back") as catalog:
        recovery.rename_in_record(catalog, {new: old for old, new in names.items()})


def bring_up_to_date(inst: Installation, database: str) -> list[str]:
    """Give a database of an earlier version the tables that the running services expect. Raises BackupError."""
    live = _schema(inst, inst.live_database)
    before = _schema(inst, database)
    if not live or not before or live == before:  # without a live one the services do it when they start
        return []
    # As the platform's own role, so that it owns what is made.
    environment = {**os.environ, "DATABASE_URL": on_database(inst.database.url, database)}
    done = subprocess.run(
        [sys.executable, "-m", "migrations", "upgrade"], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise BackupError(
            f"The restored database has schema {before}, and this release could not bring it to its own: {said} What is "
            "live was not touched."
        )
    return [f"The database was brought from schema {before} to {_schema(inst, database)}."]


def _schema(inst: Installation, database: str) -> str:
    """The schema version of a database, empty where there is none."""
    try:
        with connected(inst.url(database)) as session:
            if not one(session, "SELECT to_regclass('public.schema_version') IS NOT NULL"):
                return ""
            return one(session, "SELECT version_num FROM public.schema_version") or ""
    except BackupError:
        return ""
