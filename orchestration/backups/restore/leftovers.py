"""What restores and drills that were killed have left: found by name, and removed by the next one.

Whoever sweeps holds the operations lock, so nobody is at work on any of it. What a name does not tell for certain stays.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence

import msgspec
import psycopg

from knowledge.releases import recovery
from orchestration.backups.database import restore as database_restore
from orchestration.backups.database import siblings
from orchestration.backups.installation import Installation
from orchestration.backups.recovery_point import BackupError
from orchestration.backups.scratch import is_own_scratch, is_scratch
from orchestration.backups.undo import Undo
from orchestration.backups.vectors import restore as vectors_restore
from orchestration.backups.vectors.node import Node
from zhiyun.settings import StackSettings, load


class _Note(msgspec.Struct, frozen=True):
    """On a database of a recovery that is under way: the collections that are its too."""

    recovery: str
    collections: tuple[str, ...]


def note_recovery(inst: Installation, database: str, point: str, collections: Sequence[str]) -> None:
    """Write down which collections a recovery makes beside this database, before it makes them."""
    text = msgspec.json.encode(_Note(point, tuple(collections))).decode()
    siblings.note(inst.database.admin, database, text)


def sweep(inst: Installation) -> None:
    """Remove scratch databases, collections and folders. What cannot be removed is said, and the next sweep's."""
    undo = Undo(inst.progress.say)
    for folder in load(StackSettings).home.glob("zhiyun_drill_*"):
        if is_scratch(folder.name):
            undo.later(shutil.rmtree, folder)
    undo.later(_sweep_databases, inst)
    undo.later(_sweep_collections, inst)
    undo.now()


def sweep_recovery(inst: Installation) -> None:
    """Remove what a recovery that was killed has made, its aliases too. Nothing may be live here yet. Raises BackupError."""
    collections = _noted(inst)
    with Node(inst.qdrant) as node:
        for name in set(node.names()) & set(collections):
            vectors_restore.delete(node, name)
    _sweep_databases(inst)


def _sweep_databases(inst: Installation) -> None:
    undo = Undo(inst.progress.say)
    for left in _databases(inst):
        undo.later(database_restore.drop, inst, left)
    undo.now()


def _sweep_collections(inst: Installation) -> None:
    """Of trials by their names; of restores those with a name of theirs that no record and no alias knows."""
    alias = inst.qdrant.collection
    restored = re.compile(rf"{re.escape(alias)}_[0-9a-f]{{12}}_r[0-9a-f]{{6}}")
    noted = set(_noted(inst))
    with Node(inst.qdrant) as node:
        there = node.names()
    trials = [name for name in there if is_own_scratch(name, alias)]
    doubtful = [name for name in there if restored.fullmatch(name) or name in noted]
    if doubtful:
        try:
            known = needed(inst)
        except (BackupError, RuntimeError, psycopg.Error) as error:
            inst.progress.say(f"collections of restores that were broken off are left alone: {error}")
            doubtful = []
        else:
            doubtful = [name for name in doubtful if name not in known]
    if gone := vectors_restore.discard(inst.qdrant, [*trials, *doubtful]):
        inst.progress.say(f"left by a restore that was broken off, and removed: {', '.join(gone)}")


def needed(inst: Installation, but: str = "") -> set[str]:
    """Collections that the live record or that of a kept database knows, but for one. Raises if one cannot be read."""
    names = [inst.live_database, *(one.name for one in siblings.kept(inst.database.admin, inst.live_database))]
    found: set[str] = set()
    for name in names:
        if name != but:
            with inst.connect(name, "look for leftovers") as catalog:
                found |= recovery.recorded_collections(catalog)
    return found


def _databases(inst: Installation) -> list[str]:
    """Scratch databases of the platform and of Dagster. One that is live is none, whatever its name."""
    lives = {inst.name_of("platform"), inst.name_of("dagster")}
    found = [left.name for live in sorted(lives) for left in siblings.scratch(inst.database.admin, live)]
    return [name for name in found if name not in lives]


def _noted(inst: Installation) -> list[str]:
    names: list[str] = []
    for database in _databases(inst):
        try:
            note = msgspec.json.decode(siblings.noted(inst.database.admin, database), type=_Note)
        except msgspec.DecodeError:  # none, or not ours
            continue
        names += note.collections
    return names
