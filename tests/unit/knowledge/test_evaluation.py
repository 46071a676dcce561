"""What evaluation promises: the numbers, and a golden set's errors in one sentence."""

from __future__ import annotations

import json

import pytest

from knowledge.models.fusion import Judged
from knowledge.retrieval.evaluation import GoldenSetError, answers, golden_hash, halves, load_golden, quality


def test_the_numbers_are_those_of_the_textbook() -> None:
    measured = quality([1, 2, 6, 11, None])
    assert measured.questions == 5
    assert (measured.recall_1, measured.recall_5, measured.recall_10) == (0.2, 0.4, 0.6)
    assert measured.mrr_10 == pytest.approx((1 + 1 / 2 + 1 / 6) / 5)
    assert measured.ndcg_10 == pytest.approx((1 + 0.63093 + 0.35621) / 5, abs=1e-4)


def test_no_questions_are_zeros() -> None:
    assert quality([]).mrr_10 == 0.0


def test_each_half_is_measured_alone() -> None:
    documents = {"w": "words", "m": "meaning"}
    judged = Judged({"w": 2.0}, {"m": 0.9}, documents, frozenset({"meaning"}))
    measured = halves([judged], 0.9)
    assert measured["lexical"].recall_10 == 0.0
    assert measured["dense"].recall_1 == 1.0
    assert measured["hybrid"].recall_1 == 1.0


def test_a_document_is_meant_by_its_uri_or_the_end_of_it() -> None:
    assert answers("billing/refunds.md", "knowledge/billing/refunds.md")
    assert answers("knowledge/billing/refunds.md", "knowledge/billing/refunds.md")
    assert not answers("refunds.md", "knowledge/billing/no-refunds.md")


def test_a_golden_set_is_read_with_blank_lines_and_other_keys(tmp_path) -> None:
    path = tmp_path / "golden.jsonl"
    path.write_text('\n{"question": " 怎么退款 ", "document": "a.md", "kind": "x"}\n\n', encoding="utf-8")
    (one,) = load_golden(path)
    assert (one.question, one.document) == ("怎么退款", "a.md")
    assert golden_hash([one]) == golden_hash(load_golden(path))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2 is not JSON"),
        ("[1]", "line 2 has no `question`"),
        ('{"question": "x"}', "line 2 has no `document`"),
        ('{"question": "x", "document": 5}', "line 2 has no `document`"),
        ('{"question": " ", "document": "a"}', "line 2 has no `question`"),
    ],
)
def test_a_bad_line_is_named_in_one_sentence(tmp_path, line: str, said: str) -> None:
    path = tmp_path / "golden.jsonl"
    path.write_text(json.dumps({"question": "q", "document": "d"}) + "\n" + line + "\n", encoding="utf-8")
    with pytest.raises(GoldenSetError, match=f"KNOWLEDGE_GOLDEN_SET=.*{said}") as error:
        load_golden(path)
    assert "\n" not in str(error.value)


def test_a_missing_golden_set_is_one_sentence(tmp_path) -> None:
    with pytest.raises(GoldenSetError, match="cannot be read"):
        load_golden(tmp_path / "none.jsonl")
