"""Putting in force what a restore has made: the chat is fenced, names are swapped, aliases move, readers are told."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from knowledge.database import AnotherWriter, Connection, writer
from knowledge.releases import recovery
from knowledge.releases.vector_store import VectorStoreUnavailable
from orchestration.backups.database import swap
from orchestration.backups.installation import Installation
from orchestration.backups.restore.fence import fenced
from orchestration.backups.undo import Undo


def cut_over(
    inst: Installation,
    reason: str,
    undo: Undo,
    held: ExitStack,
    still_held: Callable[[], None],
    *,
    new: str = "",
    aside: str = "",
    switch: Callable[[Undo], object] | None = None,
) -> tuple[Connection, str]:
    """Let customers have the database `new`, if there is one, and what `switch` does, within one fence.

    The old database is then called `aside`. Gives a connection to the live database, kept open by `held` and with its
    writer lock, so that no ingestion gets in before all is done; and the name of what is kept, empty for nothing.
    `still_held` raises when others are no longer kept out. If anything fails, `undo` takes everything back; if not,
    nothing is taken back any more.
    """
    live, admin, kept = inst.live_database, inst.database.admin, ""
    with fenced(inst.redis, reason, say=inst.progress.say):
        still_held()
        if new:
            undo.later(swap.take_back, admin, live, new, aside)
            kept = swap.put(admin, live, new, aside)
        if switch:
            switch(undo)
        catalog = held.enter_context(inst.connect(live, reason))
        if new:
            try:
                held.enter_context(writer(catalog))
            except AnotherWriter:  # came in between; it makes the vector store agree before it does anything else
                inst.progress.say("an ingestion has begun already in the restored database")
        collections = inst.collections()
        recovery.publish_again(catalog, collections)
        collections.close()
        undo.keep()
    return catalog, kept


def forget_later(inst: Installation, catalog: Connection) -> str:
    """Take later releases out of collections that go on being used. Why it could not be done, or nothing.

    All is in force by now. What is not done here the next ingestion does before it builds anything.
    """
    collections = inst.collections()
    try:
        recovery.forget_later(catalog, collections)
    except VectorStoreUnavailable as error:
        return f"What later releases added is still in the vector store, unseen, until the next ingestion: {error}"
    finally:
        collections.close()
    return ""
