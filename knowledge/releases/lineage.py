"""What the catalogue tells readers: the passage behind a citation, in its document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg

from knowledge.passages.placed import PlacedPassage


@dataclass(frozen=True, slots=True, kw_only=True)
class PassageSource(PlacedPassage):
    """A passage in the document it was cut from.

    `before` and `after` are the text around the passage, as much as was asked for. `document_sha256` is of the file's
    bytes.
    """

    passage_id: UUID
    before: str
    after: str
    media_type: str
    document_sha256: str
    added_in: int
    removed_in: int


async def passage_source(
    connection: psycopg.AsyncConnection[Any], passage_id: UUID, *, release: int | None = None, around: int = 4000
) -> PassageSource | None:
    """The passage with its surroundings, or None when there is none with this id.

    A passage that did not change is kept from release to release while the document around it may change, so the
    surroundings are those of `release`, if that is given and its text still has the passage where it was.
    """
    cursor = await connection.execute(
        """
        SELECT t.id, d.uri, d.source, d.path, c.title, p.heading, p.text, p.start_offset, p.end_offset,
               substr(c.text, greatest(p.start_offset - %(around)s, 0) + 1, least(p.start_offset, %(around)s)),
               substr(c.text, p.end_offset + 1, %(around)s),
               c.media_type, c.sha256, t.added_in, t.removed_in
        FROM knowledge.points t
        JOIN knowledge.documents d ON d.id = t.document_id
        JOIN knowledge.passages p ON p.id = t.passage_id
        JOIN knowledge.document_versions v ON v.document_id = d.id
         AND v.added_in <= coalesce(%(release)s, least(t.removed_in - 1, (SELECT max(number) FROM knowledge.releases)))
         AND v.removed_in > coalesce(%(release)s, least(t.removed_in - 1, (SELECT max(number) FROM knowledge.releases)))
        JOIN knowledge.contents c ON c.id = v.content_id
        WHERE t.id = %(id)s AND substr(c.text, p.start_offset + 1, p.end_offset - p.start_offset) = p.text
        """,
        {"id": passage_id, "around": around, "release": release},
    )
    row = await cursor.fetchone()
    if row is None:
        return None
    return PassageSource(
        passage_id=row[0], uri=row[1], source=row[2], path=row[3], title=row[4], heading=tuple(row[5]), text=row[6],
        start=row[7], end=row[8], before=row[9], after=row[10], media_type=row[11], document_sha256=row[12],
        added_in=row[13], removed_in=row[14],
    )  # fmt: skip
