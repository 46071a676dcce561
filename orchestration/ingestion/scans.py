"""The record of each look through the sources: what the sensor and `zhiyun up` compare with."""

from psycopg.types.json import Json

from knowledge.database import Connection
from knowledge.documents.intake import Intake
from knowledge.releases.pending import current_signature
from zhiyun.settings import EmbeddingSettings, KnowledgeSettings


def begin(connection: Connection, knowledge: KnowledgeSettings, embedding: EmbeddingSettings, run_id: str) -> int:
    """Open a scan's row before the first file is read: a file changed meanwhile differs from its signature."""
    row = connection.execute(
        "INSERT INTO knowledge.scans (signature, dagster_run_id) VALUES (%s, %s) RETURNING id",
        (current_signature(knowledge, embedding), run_id),
    ).fetchone()
    assert row is not None
    return int(row[0])


def found(connection: Connection, scan: int, intake: Intake) -> None:
    counts = {
        "seen": intake.seen, "unchanged": intake.unchanged, "added": intake.added, "changed": intake.changed,
        "failed": len(intake.failed), "removed": intake.removed,
    }  # fmt: skip
    connection.execute(
        "UPDATE knowledge.scans SET counts = %s, problems = %s WHERE id = %s",
        (Json(counts), list(intake.problems), scan),
    )


def finish(connection: Connection, run_id: str, release: int | None) -> None:
    """Close the scan of this run: from here on its signature counts as taken in."""
    connection.execute(
        "UPDATE knowledge.scans SET finished_at = now(), release = %s WHERE dagster_run_id = %s AND finished_at IS NULL",
        (release, run_id),
    )
