"""Forgetting what no kept release needs, in the vector store and in PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

from knowledge.database import Connection

if TYPE_CHECKING:
    from knowledge.releases.collection import Collections


def prune(connection: Connection, collections: Collections, keep: int) -> dict[str, int]:
    """Forget what no kept release needs: the live one and `keep` retired ones before it. Gives what went, by kind."""
    row = connection.execute(
        """
        SELECT min(number) FROM (SELECT number FROM knowledge.releases WHERE status IN ('live', 'retired')
                                 ORDER BY number DESC LIMIT %s) kept
        """,
        (keep + 1,),
    ).fetchone()
    if not row or row[0] is None:
        return {}
    oldest = int(row[0])
    kept = {
        r[0]
        for r in connection.execute(
            "SELECT DISTINCT collection FROM knowledge.releases WHERE status IN ('live', 'retired') AND number >= %s",
            (oldest,),
        )
    }
    dropped = [name for name in collections.all() if name not in kept]
    for name in dropped:
        collections.delete(name)
    for name in kept:
        collections.delete_removed_by(name, oldest)
    gone = {"collections": len(dropped)}
    with connection.transaction():
        for kind, statement in _PRUNE.items():
            gone[kind] = connection.execute(statement, {"oldest": oldest, "kept": sorted(kept)}).rowcount
    return {kind: number for kind, number in gone.items() if number}


_PRUNE: dict[str, LiteralString] = {
    "points": "DELETE FROM knowledge.points WHERE removed_in <= %(oldest)s OR collection <> ALL(%(kept)s)",
    "document_versions": "DELETE FROM knowledge.document_versions WHERE removed_in <= %(oldest)s",
    "contents": """
        DELETE FROM knowledge.contents c
        WHERE NOT EXISTS (SELECT FROM knowledge.documents d WHERE d.content_id = c.id)
          AND NOT EXISTS (SELECT FROM knowledge.document_versions v WHERE v.content_id = c.id)
          AND NOT EXISTS (SELECT FROM knowledge.passages p JOIN knowledge.points t ON t.passage_id = p.id
                          WHERE p.content_id = c.id)""",
    "passages": """
        DELETE FROM knowledge.passages p USING knowledge.contents c
        WHERE c.id = p.content_id AND p.rules IS DISTINCT FROM c.cut_with
          AND NOT EXISTS (SELECT FROM knowledge.points t WHERE t.passage_id = p.id)""",
    "models": """
        UPDATE knowledge.models m SET package = NULL WHERE package IS NOT NULL AND NOT EXISTS
          (SELECT FROM knowledge.releases r WHERE r.fingerprint = m.fingerprint
           AND r.status IN ('live', 'retired', 'candidate') AND r.number >= %(oldest)s)""",
    "vectors": """
        DELETE FROM knowledge.vectors v WHERE NOT EXISTS
          (SELECT FROM knowledge.passages p WHERE p.indexed_sha256 = v.indexed_sha256)
          OR v.embedder NOT IN (SELECT m.embedder FROM knowledge.models m JOIN knowledge.releases r USING (fingerprint)
                                WHERE r.status IN ('live', 'retired') AND r.number >= %(oldest)s)""",
}
