"""After a restore: the record and the vector store come from different moments, and perhaps under other names."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from knowledge.database import Connection
from knowledge.releases import lifecycle
from knowledge.releases.points import fill, refill, same_points
from knowledge.releases.vector_store import VectorStoreUnavailable

if TYPE_CHECKING:
    from knowledge.models.retrieval_model import RetrievalModel
    from knowledge.releases.collection import Collections

Load = Callable[[str], "RetrievalModel"]


@dataclass(frozen=True, slots=True)
class Kept:
    """A collection that kept releases are in, by the record: their numbers, newest first."""

    name: str
    fingerprint: str
    releases: tuple[int, ...]


def kept_collections(connection: Connection, keep: int) -> list[Kept]:
    """Collections of the live release and of `keep` retired ones before it, as `retention` keeps them."""
    rows = connection.execute(
        """
        SELECT collection, fingerprint, array_agg(number ORDER BY number DESC) FROM (
            SELECT collection, fingerprint, number FROM knowledge.releases
            WHERE status IN ('live', 'retired') ORDER BY number DESC LIMIT %s) newest
        WHERE EXISTS (SELECT FROM knowledge.points t WHERE t.collection = newest.collection)
        GROUP BY collection, fingerprint ORDER BY max(number) DESC
        """,
        (keep + 1,),
    )
    return [Kept(row[0], row[1], tuple(row[2])) for row in rows]


def recorded_collections(connection: Connection) -> set[str]:
    """Names of all collections that the record has points or releases in."""
    rows = connection.execute("SELECT collection FROM knowledge.releases UNION SELECT collection FROM knowledge.points")
    return {row[0] for row in rows}


def is_whole(connection: Connection, collections: Collections) -> bool:
    """Whether the vector store has all that the record's live release needs, under the name that the record gives."""
    current = lifecycle.live(connection)
    if current is None:
        return True
    name = current.collection
    return collections.exists(name) and same_points(connection, collections, name, current.number)


def rename_in_record(connection: Connection, names: Mapping[str, str]) -> None:
    """Let the record know collections by other names, in one transaction. Readers are told by `publish_again`."""
    changed = [(old, new) for old, new in names.items() if old != new]
    if not changed:
        return
    parameters = ([old for old, _ in changed], [new for _, new in changed])
    pairs = "FROM unnest(%s::text[], %s::text[]) AS renamed (old, new)"
    with connection.transaction():
        connection.execute(
            f"UPDATE knowledge.releases r SET collection = renamed.new {pairs} WHERE r.collection = renamed.old",
            parameters,
        )
        connection.execute(
            f"UPDATE knowledge.points t SET collection = renamed.new {pairs} WHERE t.collection = renamed.old",
            parameters,
        )


def settle(
    connection: Connection, collections: Collections, load: Load, keep: int, say: Callable[[str], None]
) -> list[str]:
    """Make restored collections hold what the record says of the kept releases; says what had to be done.

    The vector store was captured after the database, so it may have what later releases added and removed: that is taken
    back, else no later release would add up. What then differs is written again from PostgreSQL, without embedding.
    Customers must not be reading these collections yet; nothing is published.
    """
    said: list[str] = []
    last = lifecycle.last_number(connection)
    for kept in kept_collections(connection, keep):
        name = kept.name

        def agrees(kept: Kept = kept) -> bool:
            return all(same_points(connection, collections, kept.name, number) for number in kept.releases)

        if not collections.exists(name):
            written = refill(connection, collections, name, load(kept.fingerprint))
            said.append(f"The collection {name} was not there: {written} points were written from PostgreSQL.")
            continue
        collections.forget_after(name, last)
        if agrees():
            continue
        say(f"the collection {name} differs from the database: its points are written again")
        model = load(kept.fingerprint)
        written = fill(connection, collections, name, model)
        if not agrees():  # it also has points that the record does not know
            collections.delete(name)
            written = refill(connection, collections, name, model)
        said.append(f"The collection {name} differed from the database: {written} points were written from PostgreSQL.")
    return said


def rebuild(
    connection: Connection,
    collections: Collections,
    load: Load,
    keep: int,
    say: Callable[[str], None],
    *,
    into: str = "",
) -> dict[str, str]:
    """Write every collection of kept releases anew from PostgreSQL, without embedding and beside what is there.

    Gives the name in the record and the name here, which differ where the former is taken or where `into` is given
    (`<into>_<name>`). `rename_in_record` and `publish_again` then put them in force. On failure they are removed.
    """
    names: dict[str, str] = {}
    try:
        for kept in kept_collections(connection, keep):
            name = f"{into}_{kept.name}" if into else kept.name
            if not into and collections.exists(name):
                name = f"{collections.name(kept.fingerprint)}_r{secrets.token_hex(3)}"
            elif collections.exists(name):
                raise VectorStoreUnavailable(
                    f"There is a collection {name} already; choose another name. It was left alone."
                )
            names[kept.name] = name
            say(f"writing the collection {name} from the database")
            written = refill(connection, collections, kept.name, load(kept.fingerprint), target=name)
            say(f"{written} points written into {name}")
    except BaseException:
        for name in names.values():
            with suppress(VectorStoreUnavailable):
                collections.delete(name)
        raise
    return names


def publish_again(connection: Connection, collections: Collections) -> int | None:
    """Tell readers of the release that is live by the record; gives its number, None when none is."""
    current = lifecycle.live(connection)
    if current is None:
        return None
    collections.publish(current.collection, lifecycle.live_metadata(connection, current))
    return current.number


def names_by_model(
    connection: Connection, collections: Collections, restored: Mapping[str, str], keep: int
) -> dict[str, str]:
    """For a record that stays, which restored collection takes the place of which of its own: name there, name here.

    The one of the same name, else the one of the same model: since the point was made another restore may have given the
    record's collection another name.
    """
    names: dict[str, str] = {}
    for kept in kept_collections(connection, keep):
        usual = re.compile(rf"{re.escape(collections.name(kept.fingerprint))}(_r[0-9a-f]{{6}})?")
        same = sorted(new for old, new in restored.items() if usual.fullmatch(old))
        if kept.name in restored:
            names[kept.name] = restored[kept.name]
        elif same:
            names[kept.name] = same[-1]
    return names


def forget_later(connection: Connection, collections: Collections) -> None:
    """Undo in the collections what releases did that the record does not know: it will give their numbers again.

    Readers must have been told of the record's live release before (`publish_again`): they see none of it then.
    """
    last = lifecycle.last_number(connection)
    for name in sorted(recorded_collections(connection)):
        if collections.exists(name):
            collections.forget_after(name, last)
