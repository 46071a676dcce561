"""Contents -> passages in the catalogue: each content is cut once under the same passage rules."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from knowledge.database import Connection
from knowledge.documents.document import Document
from knowledge.passages.splitter import RULES, cut
from zhiyun.settings import KnowledgeSettings


@dataclass(frozen=True, slots=True)
class Cutting:
    """Contents cut now, passages that came of them, and all passages of the documents at hand."""

    contents: int
    passages: int
    total: int
    empty: tuple[str, ...] = ()


def passage_rules(settings: KnowledgeSettings) -> str:
    """The name of the rules by which passages are cut: a part of the fingerprint."""
    return f"{RULES}/{settings.passage_chars}/{settings.passage_max_chars}"


def cut_new(connection: Connection, settings: KnowledgeSettings, progress: Callable[[str], None]) -> Cutting:
    """Cut every content that a document has and that was not yet cut with today's rules."""
    rules = passage_rules(settings)
    waiting = [
        row[0]
        for row in connection.execute(
            """
            SELECT DISTINCT c.id FROM knowledge.contents c JOIN knowledge.documents d ON d.content_id = c.id
            WHERE c.cut_with IS DISTINCT FROM %s ORDER BY c.id
            """,
            (rules,),
        )
    ]
    passages = 0
    for number, content_id in enumerate(waiting, 1):
        passages += _cut_one(connection, content_id, rules, settings)
        if number % 200 == 0:
            progress(f"{number} of {len(waiting)} documents cut, {passages} passages")
    total = connection.execute(
        """
        SELECT count(*) FROM knowledge.documents d JOIN knowledge.passages p ON p.content_id = d.content_id AND p.rules = %s
        """,
        (rules,),
    ).fetchone()
    empty = connection.execute(
        """
        SELECT d.uri FROM knowledge.documents d WHERE d.content_id IS NOT NULL AND NOT EXISTS
          (SELECT FROM knowledge.passages p WHERE p.content_id = d.content_id AND p.rules = %s) ORDER BY d.uri
        """,
        (rules,),
    ).fetchall()
    return Cutting(len(waiting), passages, total[0] if total else 0, tuple(row[0] for row in empty))


def _cut_one(connection: Connection, content_id: int, rules: str, settings: KnowledgeSettings) -> int:
    kept = connection.execute(
        "SELECT count(*) FROM knowledge.passages WHERE content_id = %s AND rules = %s", (content_id, rules)
    ).fetchone()
    if kept and kept[0]:  # cut under these rules before others were tried: those passages are still right
        connection.execute("UPDATE knowledge.contents SET cut_with = %s WHERE id = %s", (rules, content_id))
        return 0
    row = connection.execute(
        "SELECT text, title, media_type, sha256, encoding, note FROM knowledge.contents WHERE id = %s", (content_id,)
    ).fetchone()
    assert row is not None
    document = Document(text=row[0], title=row[1], media_type=row[2], sha256=row[3], encoding=row[4], note=row[5])
    pieces = cut(document, settings.passage_chars, settings.passage_max_chars)
    with connection.transaction():
        with connection.cursor().copy(
            "COPY knowledge.passages (content_id, rules, ordinal, start_offset, end_offset, heading, text, indexed, "
            "indexed_sha256) FROM STDIN"
        ) as copy:
            for piece in pieces:
                indexed = piece.indexed(document.title)
                copy.write_row((content_id, rules, piece.ordinal, piece.start, piece.end, list(piece.heading), piece.text,
                                indexed, hashlib.sha256(indexed.encode()).digest()))  # fmt: skip
        connection.execute("UPDATE knowledge.contents SET cut_with = %s WHERE id = %s", (rules, content_id))
    return len(pieces)
