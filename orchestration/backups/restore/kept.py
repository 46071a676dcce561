"""What restores have kept of the state before them, until somebody says that it is not needed."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime

from knowledge.database import writer
from knowledge.releases import recovery
from orchestration.backups.database import restore as database_restore
from orchestration.backups.database import siblings
from orchestration.backups.database.server import database_errors
from orchestration.backups.installation import Installation
from orchestration.backups.recovery_point import BackupError
from orchestration.backups.restore import leftovers
from orchestration.backups.restore.cutover import cut_over, forget_later
from orchestration.backups.restore.reconcile import bring_up_to_date, reconcile
from orchestration.backups.undo import Undo
from orchestration.backups.vectors import restore as vectors_restore
from orchestration.exclusion import exclusive


def databases(inst: Installation) -> list[siblings.Beside]:
    """Databases that restores have put aside, newest first."""
    return siblings.kept(inst.database.admin, inst.live_database)


def back(inst: Installation, name: str) -> str:
    """Put a kept database in the place of the live one again; gives the name under which that is kept now.

    The vector store follows the record, as after a restore of the database alone. Raises what a restore raises.
    """
    _known(inst, name)
    reason = f"return of {name}"
    with database_errors(), ExitStack() as held, Undo(inst.progress.say) as undo:
        still_held = held.enter_context(exclusive(inst.database.admin, reason, say=inst.progress.say))
        if database_restore.exists(inst, inst.live_database):
            held.enter_context(writer(held.enter_context(inst.catalog(reason))))
        inst.progress.say(f"the vector store is compared with {name}")
        bring_up_to_date(inst, name)
        with inst.connect(name, reason) as catalog:
            reconcile(inst, catalog, None, undo)
        aside = database_restore.beside(inst, "before", datetime.now(UTC))
        catalog, now_kept = cut_over(inst, reason, undo, held, still_held, new=name, aside=aside)
        if problem := forget_later(inst, catalog):
            inst.progress.say(problem)
    return now_kept


def discard(inst: Installation, name: str) -> list[str]:
    """Drop a kept database, and delete the collections that only it knows; gives their names."""
    _known(inst, name)
    reason = f"removal of {name}"
    with database_errors(), exclusive(inst.database.admin, reason):
        with inst.connect(name, reason) as catalog:
            its = recovery.recorded_collections(catalog)
        gone = vectors_restore.discard(inst.qdrant, sorted(its - leftovers.needed(inst, but=name)))
        database_restore.drop(inst, name)
    return gone


def _known(inst: Installation, name: str) -> None:
    names = [one.name for one in databases(inst)]
    if name not in names:
        raise BackupError(
            f"There is no kept database {name!r}; `zhiyun kept list` shows {', '.join(names) or 'none'}. Nothing was changed."
        )
