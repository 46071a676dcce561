"""Knowledge releases: customers see a change of the knowledge base whole, or not at all.

Release N is the points with `added_in <= N < removed_in`. A candidate is built beside the live release, which customers
go on reading, and publishing is changing one number. PostgreSQL is the record; the vector store holds what readers need.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from psycopg.types.json import Json

from knowledge.database import Connection
from knowledge.releases.points import BATCH, alive, fill, points_of, refill
from knowledge.releases.vector_store import CURRENT

if TYPE_CHECKING:
    from knowledge.models.retrieval_model import RetrievalModel
    from knowledge.releases.collection import Collections

# Passages that the documents at hand should have, and those that are open in the collection.
_WANTED = """
    SELECT d.id AS document_id, p.id AS passage_id, p.indexed_sha256, p.start_offset, p.end_offset, p.heading, p.text, c.title
    FROM knowledge.documents d
    JOIN knowledge.contents c ON c.id = d.content_id
    JOIN knowledge.passages p ON p.content_id = c.id AND p.rules = %(rules)s
"""
_OPEN = """
    SELECT t.id, t.document_id, p.id AS passage_id, p.indexed_sha256, p.start_offset, p.end_offset, p.heading, p.text, c.title
    FROM knowledge.points t
    JOIN knowledge.passages p ON p.id = t.passage_id
    JOIN knowledge.contents c ON c.id = p.content_id
    WHERE t.collection = %(collection)s AND t.removed_in = 2147483647
"""
_SAME = """
    w.document_id = o.document_id AND (w.passage_id = o.passage_id
    OR (w.indexed_sha256 = o.indexed_sha256 AND w.start_offset = o.start_offset AND w.end_offset = o.end_offset
        AND w.heading = o.heading AND w.text = o.text AND w.title = o.title))
"""


@dataclass(frozen=True, slots=True)
class Release:
    number: int
    status: str
    fingerprint: str
    collection: str
    fusion_weight: float
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Difference:
    """What a candidate changes against the open points of its collection."""

    added: int
    removed: int
    passages: int
    documents: int


def live(connection: Connection) -> Release | None:
    return _one(connection, "live")


def candidate(connection: Connection) -> Release | None:
    return _one(connection, "candidate")


def _one(connection: Connection, status: str) -> Release | None:
    row = connection.execute(
        "SELECT number, status, fingerprint, collection, fusion_weight, counts FROM knowledge.releases WHERE status = %s",
        (status,),
    ).fetchone()
    return Release(*row) if row else None


def last_number(connection: Connection) -> int:
    """The number of the newest release, whatever became of it; 0 without any."""
    row = connection.execute("SELECT coalesce(max(number), 0) FROM knowledge.releases").fetchone()
    return int(row[0]) if row else 0


def reconcile(connection: Connection, collections: Collections, load: Callable[[str], RetrievalModel]) -> list[str]:
    """Make the vector store agree with the record before anything is built on it; says what had to be done.

    A candidate that a crash left is discarded; a live collection that is missing or incomplete is filled again from
    PostgreSQL, without embedding; a publication that did not reach the vector store is completed.
    """
    said: list[str] = []
    left = candidate(connection)
    if left is not None:
        reject(connection, collections, left, "an interrupted run left it")
        said.append(f"Release {left.number} was left unfinished by an interrupted run and has been discarded.")
    current = live(connection)
    if current is None:
        return said
    expected = alive(connection, current.collection, current.number)
    name = current.collection
    if not collections.exists(name):
        restored = refill(connection, collections, name, load(current.fingerprint))
        said.append(f"The collection {name} was missing: {restored} points were written again from PostgreSQL.")
    elif collections.count(name, current.number) != expected:
        model = load(current.fingerprint)
        restored = fill(connection, collections, name, model)
        if collections.count(name, current.number) != expected:  # it also has points that the record does not know
            collections.delete(name)
            restored = refill(connection, collections, name, model)
        said.append(f"The collection {name} was incomplete: {restored} points were written again from PostgreSQL.")
    told = collections.live()
    if told is None or (told.collection, told.release) != (current.collection, current.number):
        collections.publish(current.collection, live_metadata(connection, current))
        said.append(f"Release {current.number} is live again in the vector store.")
    # Of a later time than the record, where a restore was broken off: the next release gets their number.
    collections.forget_after(name, last_number(connection))
    return said


def build(
    connection: Connection,
    collections: Collections,
    model: RetrievalModel,
    rules: str,
    progress: Callable[[str], None],
    *,
    run_id: str | None = None,
) -> tuple[Release, Difference] | None:
    """Write the next release as a candidate beside the live one. None when nothing differs from the live release.

    Raises VectorStoreUnavailable; the candidate is then left for `reconcile`, and customers keep the live release.
    """
    collection = _home(connection, collections, model.fingerprint)
    current = live(connection)
    with connection.transaction():
        difference = _compare(connection, collection, rules)
        if current and current.collection == collection and not _anything(connection, difference):
            return None
        number = last_number(connection) + 1
        weight = current.fusion_weight if current and current.fingerprint == model.fingerprint else model.default_weight
        connection.execute(
            """
            INSERT INTO knowledge.releases (number, status, fingerprint, collection, fusion_weight, counts, dagster_run_id)
            VALUES (%s, 'candidate', %s, %s, %s, %s, %s)
            """,
            (number, model.fingerprint, collection, weight,
             Json({"documents": difference.documents, "passages": difference.passages, "added": difference.added,
                   "removed": difference.removed}), run_id),
        )  # fmt: skip
        connection.execute(
            "INSERT INTO knowledge.points (collection, document_id, passage_id, added_in) "
            "SELECT %s, document_id, passage_id, %s FROM difference WHERE point_id IS NULL",
            (collection, number),
        )
        connection.execute(
            "UPDATE knowledge.points SET removed_in = %s WHERE id IN "
            "(SELECT point_id FROM difference WHERE point_id IS NOT NULL)",
            (number,),
        )
        _take_over(connection, collection, rules)
        _note_versions(connection, number)
    if not collections.exists(collection):
        collections.create(collection, model.embedder.dimensions, {})
    written = 0
    for points in points_of(connection, model, "t.collection = %s AND t.added_in = %s", (collection, number)):
        written += collections.upsert(collection, points)
        if difference.added > BATCH:
            progress(f"{written} of {difference.added} points written")
    collections.set_removed_in(collection, _removed_in(connection, collection, number), number)
    built = candidate(connection)
    assert built is not None
    return built, difference


def _home(connection: Connection, collections: Collections, fingerprint: str) -> str:
    """The collection that releases of this fingerprint go to: where the newest kept one is, whatever it is called.

    A restore may have put it under another name, or may have left one with the usual name that the record knows nothing
    of; points beside those would never add up, so that one is left to `retention`.
    """
    row = connection.execute(
        """
        SELECT r.collection FROM knowledge.releases r WHERE r.fingerprint = %s AND r.status IN ('live', 'retired')
        AND EXISTS (SELECT FROM knowledge.points t WHERE t.collection = r.collection) ORDER BY r.number DESC LIMIT 1
        """,
        (fingerprint,),
    ).fetchone()
    if row:
        return row[0]
    name = collections.name(fingerprint)
    if not collections.exists(name) or not collections.size(name):
        return name
    known = connection.execute("SELECT FROM knowledge.points WHERE collection = %s LIMIT 1", (name,)).fetchone()
    return name if known else f"{name}_r{secrets.token_hex(3)}"


def verify(connection: Connection, collections: Collections, release: Release) -> tuple[int, int]:
    """Passages that the release should have by the record, and that the vector store counts."""
    expected = alive(connection, release.collection, release.number)
    return expected, collections.count(release.collection, release.number)


def set_quality(connection: Connection, release: Release, fusion_weight: float, quality: Mapping[str, Any]) -> None:
    connection.execute(
        "UPDATE knowledge.releases SET fusion_weight = %s, quality = %s WHERE number = %s",
        (fusion_weight, Json(dict(quality)), release.number),
    )


def quality(connection: Connection, number: int) -> dict[str, Any]:
    """What was measured of a release; empty when nothing was."""
    row = connection.execute("SELECT quality FROM knowledge.releases WHERE number = %s", (number,)).fetchone()
    return dict(row[0]) if row else {}


def publish(connection: Connection, collections: Collections, release: Release) -> None:
    """Make a candidate live. The record comes first: a crash between the two is completed by `reconcile`."""
    with connection.transaction():
        connection.execute("UPDATE knowledge.releases SET status = 'retired', retired_at = now() WHERE status = 'live'")
        connection.execute(
            "UPDATE knowledge.releases SET status = 'live', published_at = now() WHERE number = %s", (release.number,)
        )
    collections.publish(release.collection, live_metadata(connection, release))


def reject(connection: Connection, collections: Collections, release: Release, reason: str) -> None:
    """Take a candidate back: delete what it added and open again what it removed. The live release never moved."""
    if collections.exists(release.collection):
        gone = _removed_in(connection, release.collection, release.number)
        collections.set_removed_in(release.collection, gone, CURRENT)
        collections.delete_added_in(release.collection, release.number)
    with connection.transaction():
        connection.execute("DELETE FROM knowledge.points WHERE added_in = %s", (release.number,))
        connection.execute(
            "UPDATE knowledge.points SET removed_in = 2147483647 WHERE removed_in = %s", (release.number,)
        )
        connection.execute("DELETE FROM knowledge.document_versions WHERE added_in = %s", (release.number,))
        connection.execute(
            "UPDATE knowledge.document_versions SET removed_in = 2147483647 WHERE removed_in = %s", (release.number,)
        )
        connection.execute(
            "UPDATE knowledge.releases SET status = 'rejected', reason = %s WHERE number = %s", (reason, release.number)
        )


def _removed_in(connection: Connection, collection: str, number: int) -> list[UUID]:
    """The points that a release took out."""
    rows = connection.execute(
        "SELECT id FROM knowledge.points WHERE collection = %s AND removed_in = %s", (collection, number)
    )
    return [row[0] for row in rows]


def _compare(connection: Connection, collection: str, rules: str) -> Difference:
    """Fill the temporary table `difference`: passages to add (no point_id) and points to remove."""
    connection.execute(
        "CREATE TEMP TABLE difference (document_id uuid, passage_id bigint, point_id uuid) ON COMMIT DROP"
    )
    parameters = {"rules": rules, "collection": collection}
    connection.execute(
        f"""
        INSERT INTO difference
        SELECT w.document_id, w.passage_id, NULL FROM ({_WANTED}) w
        WHERE NOT EXISTS (SELECT FROM ({_OPEN}) o WHERE {_SAME})
        UNION ALL
        SELECT o.document_id, o.passage_id, o.id FROM ({_OPEN}) o
        WHERE NOT EXISTS (SELECT FROM ({_WANTED}) w WHERE {_SAME})
        """,
        parameters,
    )
    row = connection.execute(
        f"""
        SELECT (SELECT count(*) FROM difference WHERE point_id IS NULL),
               (SELECT count(*) FROM difference WHERE point_id IS NOT NULL),
               (SELECT count(*) FROM ({_WANTED}) w),
               (SELECT count(*) FROM knowledge.documents WHERE content_id IS NOT NULL)
        """,
        parameters,
    ).fetchone()
    assert row is not None
    return Difference(*row)


def _take_over(connection: Connection, collection: str, rules: str) -> None:
    """Let points that stay refer to the newest content that has their passage, so that older ones can be pruned."""
    connection.execute(
        f"""
        UPDATE knowledge.points t SET passage_id = w.passage_id FROM ({_WANTED}) w, ({_OPEN}) o
        WHERE t.id = o.id AND w.passage_id <> o.passage_id AND {_SAME}
        """,
        {"rules": rules, "collection": collection},
    )


_VERSIONS_DIFFER = """
    FROM knowledge.documents d FULL JOIN (SELECT * FROM knowledge.document_versions WHERE removed_in = 2147483647) v
      ON v.document_id = d.id
    WHERE v.content_id IS DISTINCT FROM d.content_id
"""


def _anything(connection: Connection, difference: Difference) -> bool:
    if difference.added or difference.removed:
        return True
    row = connection.execute(f"SELECT EXISTS (SELECT 1 {_VERSIONS_DIFFER})").fetchone()
    return bool(row and row[0])


def _note_versions(connection: Connection, number: int) -> None:
    connection.execute(
        f"CREATE TEMP TABLE moved ON COMMIT DROP AS SELECT d.id AS document_id, d.content_id {_VERSIONS_DIFFER}"
    )
    connection.execute(
        "UPDATE knowledge.document_versions v SET removed_in = %s FROM moved m "
        "WHERE v.document_id = m.document_id AND v.removed_in = 2147483647",
        (number,),
    )
    connection.execute(
        "INSERT INTO knowledge.document_versions (document_id, content_id, added_in) "
        "SELECT document_id, content_id, %s FROM moved WHERE content_id IS NOT NULL",
        (number,),
    )


def live_metadata(connection: Connection, release: Release) -> dict[str, Any]:
    """What readers are told of a live release."""
    row = connection.execute(
        "SELECT fusion_weight FROM knowledge.releases WHERE number = %s", (release.number,)
    ).fetchone()
    return {
        "collection": release.collection,
        "live_release": release.number,
        "fingerprint": release.fingerprint,
        "fusion_weight": float(row[0]) if row else release.fusion_weight,
    }
