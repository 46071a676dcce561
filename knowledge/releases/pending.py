"""Is there something to take in? Asked by the sensor on every tick and by `zhiyun up` at its start."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass

from knowledge.database import Connection, DatabaseUnavailable, connect
from knowledge.documents.sources import parse_sources, signature
from knowledge.passages.catalogue import passage_rules
from knowledge.releases import lifecycle
from knowledge.releases.collection import Collections
from knowledge.releases.vector_store import VectorStoreUnavailable
from zhiyun.settings import (
    DatabaseSettings,
    EmbeddingSettings,
    KnowledgeSettings,
    QdrantSettings,
    SettingsError,
    load,
)


@dataclass(frozen=True, slots=True)
class Pending:
    """`signature` is of the sources now; `after` is the last finished scan, 0 before the first."""

    needed: bool
    reason: str
    signature: str
    after: int


def current_signature(knowledge: KnowledgeSettings, embedding: EmbeddingSettings) -> str:
    """A hash of all that shapes a release: names, sizes and times of the files, passage rules, embedding model."""
    parts = [
        signature(parse_sources(knowledge.sources)),
        passage_rules(knowledge),
        str(knowledge.max_file_mb),
        embedding.model,
        embedding.revision,
        embedding.query_prompt,
        embedding.document_prompt,
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def pending(connection: Connection, collections: Collections) -> Pending:
    """Compare the sources with the last finished scan, and the record with the vector store."""
    now = current_signature(load(KnowledgeSettings), load(EmbeddingSettings))
    row = connection.execute(
        "SELECT id, signature FROM knowledge.scans WHERE finished_at IS NOT NULL ORDER BY id DESC LIMIT 1"
    ).fetchone()
    after, scanned = (int(row[0]), str(row[1])) if row else (0, "")
    current = lifecycle.live(connection)
    if current is None:
        return Pending(True, "nothing has been taken in yet", now, after)
    told = collections.live()
    if told is None or told.release != current.number:
        return Pending(True, "the vector store does not have the live release", now, after)
    if scanned != now:
        return Pending(True, "the sources or their settings have changed", now, after)
    return Pending(False, f"release {current.number} is up to date", now, after)


def main() -> int:
    """`python -m knowledge.releases.pending` prints one line of JSON: `{"needed": true, "reason": "...", "signature": "..."}`."""
    try:
        collections = Collections(load(QdrantSettings))
        with connect(load(DatabaseSettings)) as connection:
            found = pending(connection, collections)
    except (SettingsError, ValueError, DatabaseUnavailable, VectorStoreUnavailable) as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps({"needed": found.needed, "reason": found.reason, "signature": found.signature}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
