"""Which retrieval model the next release uses: the one at hand, or one made now from the documents' passages."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from psycopg.types.json import Json

from knowledge.database import Connection
from knowledge.models import retrieval_model, vectors
from knowledge.models.retrieval_model import RetrievalModel
from zhiyun.settings import EmbeddingSettings, StackSettings, load


@dataclass(frozen=True, slots=True)
class Chosen:
    """The model's fingerprint, and why it was made now; an empty reason means that the one at hand is used."""

    fingerprint: str
    reason: str


class NoPassages(RuntimeError):
    """There is nothing to make a model of. One sentence; the live release is as it was."""


class ModelMissing(RuntimeError):
    """A model is recorded but its package is gone."""


def models_dir() -> Path:
    """The folder of retrieval models on this machine: EMBEDDING_MODELS_DIR, or `models` below ZHIYUN_HOME."""
    configured = load(EmbeddingSettings).models_dir
    return Path(configured).expanduser() if configured else load(StackSettings).home / "models"


def choose(connection: Connection, settings: EmbeddingSettings, rules: str, progress: Callable[[str], None]) -> Chosen:
    """Keep the live release's model while it fits the settings and the corpus; make another where it does not.

    Raises NoPassages, and EmbeddingModelUnavailable with one sentence that names EMBEDDING_MODEL.
    """
    row = connection.execute(
        """
        SELECT m.fingerprint, m.config FROM knowledge.models m JOIN knowledge.releases r USING (fingerprint)
        WHERE r.status = 'live' AND m.rules = %s
        """,
        (rules,),
    ).fetchone()
    reason = "there is no model for these settings yet"
    hashes = _hashes(connection, rules)
    if not hashes:
        raise NoPassages("The sources hold no text at all, so no release was built; the live release is as it was.")
    if row is not None:
        reason = retrieval_model.why_another(row[1], settings, hashes)
        if not reason:
            connection.execute("UPDATE knowledge.models SET chosen_at = now() WHERE fingerprint = %s", (row[0],))
            return Chosen(row[0], "")
    made = retrieval_model.build(
        list(vectors.indexed_texts(connection, rules)), settings, rules=rules, folder=models_dir(), progress=progress
    )
    connection.execute(
        """
        INSERT INTO knowledge.models (fingerprint, embedder, rules, config, package) VALUES (%s, %s, %s, %s, %s)
        ON CONFLICT (fingerprint) DO UPDATE SET package = excluded.package, chosen_at = now()
        """,
        (made.fingerprint, made.embedder.fingerprint, rules, Json(made.config),
         retrieval_model.pack(models_dir() / made.fingerprint)),
    )  # fmt: skip
    return Chosen(made.fingerprint, reason)


def load_model(connection: Connection, fingerprint: str, models: Path | None = None) -> RetrievalModel:
    """The model with this fingerprint: from this machine's folder (or `models`), else from the record in PostgreSQL.

    The last one stays in memory: the steps of a run use it one after another.
    """
    folder = (models or models_dir()) / fingerprint
    if not folder.exists():
        row = connection.execute(
            "SELECT package FROM knowledge.models WHERE fingerprint = %s", (fingerprint,)
        ).fetchone()
        if row is None or row[0] is None:
            raise ModelMissing(f"The retrieval model {fingerprint} is neither in {folder} nor in the database.")
        retrieval_model.unpack(bytes(row[0]), folder)
    return _load(folder)


@functools.lru_cache(maxsize=1)
def _load(folder: Path) -> RetrievalModel:
    return retrieval_model.load(folder)


def chosen_model(connection: Connection, rules: str) -> RetrievalModel:
    """The model that `choose` last took for these passage rules."""
    row = connection.execute(
        "SELECT fingerprint FROM knowledge.models WHERE rules = %s ORDER BY chosen_at DESC LIMIT 1", (rules,)
    ).fetchone()
    if row is None:
        raise ModelMissing("No retrieval model was made for these passage rules yet; run the whole ingestion job.")
    return load_model(connection, row[0])


def _hashes(connection: Connection, rules: str) -> list[bytes]:
    return [
        row[0]
        for row in connection.execute(
            """
            SELECT DISTINCT p.indexed_sha256 FROM knowledge.documents d
            JOIN knowledge.passages p ON p.content_id = d.content_id AND p.rules = %s ORDER BY 1
            """,
            (rules,),
        )
    ]
