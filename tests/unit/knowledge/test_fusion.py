"""What fusion and the confidence promise."""

from __future__ import annotations

import pytest

from knowledge.models.fusion import Judged, first_rank, fit_weight, fuse
from knowledge.models.lexical import tokenize
from knowledge.models.lexicon import Lexicon
from knowledge.retrieval.confidence import Question

LEXICAL = {"a": 9.0, "b": 6.0, "c": 1.0}
DENSE = {"c": 0.9, "d": 0.6, "a": 0.1}


def _names(weight: float) -> list[str]:
    return [name for name, _ in fuse(LEXICAL, DENSE, weight)]


def test_weight_0_is_the_lexical_order_and_weight_1_the_dense() -> None:
    assert _names(0.0)[:3] == ["a", "b", "c"]
    assert _names(1.0)[:3] == ["c", "d", "a"]


def test_every_passage_is_in_the_ranking_once() -> None:
    assert sorted(_names(0.3)) == ["a", "b", "c", "d"]


@pytest.mark.parametrize(("lexical", "dense"), [({}, {}), ({"a": 0.0}, {"b": -0.5}), ({}, {"b": 0.0})])
def test_nothing_found_and_scores_of_zero_do_not_crash(lexical: dict[str, float], dense: dict[str, float]) -> None:
    assert len(fuse(lexical, dense, 0.5)) == len(lexical) + len(dense)


def test_documents_count_once_in_a_rank() -> None:
    judged = Judged({"p1": 3.0, "p2": 2.0, "q": 1.0}, {}, {"p1": "x", "p2": "x", "q": "y"}, frozenset({"y"}))
    assert first_rank(judged, 0.0) == 2
    assert first_rank(Judged({}, {}, {}, frozenset({"y"})), 0.0) is None


def _asked(wanted_by_words: int, wanted_by_meaning: int) -> list[Judged]:
    documents = {"w": "words", "m": "meaning"}
    lexical, dense = {"w": 2.0, "m": 1.0}, {"m": 0.9, "w": 0.3}
    return [Judged(lexical, dense, documents, frozenset({"words"}))] * wanted_by_words + [
        Judged(lexical, dense, documents, frozenset({"meaning"}))
    ] * wanted_by_meaning


def test_the_weight_follows_the_golden_set() -> None:
    assert fit_weight(_asked(50, 5), 0.3) <= 0.4
    assert fit_weight(_asked(5, 50), 0.3) > 0.4


def test_without_evidence_the_weight_stays() -> None:
    assert fit_weight([], 0.3) == 0.3
    assert fit_weight(_asked(3, 0), 0.3) == 0.3


def test_an_identifier_is_ranked_by_words_alone() -> None:
    documents = {"w": "words", "m": "meaning"}
    judged = Judged({"w": 1.0}, {"m": 0.9}, documents, frozenset({"words"}), exact=True)
    assert first_rank(judged, 1.0) == 1


TEXTS = [
    "退款申请：登录后在订单页面点申请退款，三个工作日到账。",
    "发票抬头可以在发票页面修改，电子发票发到邮箱。",
    "错误码 QH-40302 表示工作区欠费停用，续费后恢复。",
    "短信签名需要审核，一般两小时。",
]
LEXICON = Lexicon.of([Lexicon.counted(text, tokenize(text)) for text in TEXTS * 5])


def test_an_answered_question_is_surer_than_one_about_something_else() -> None:
    refund, code = Question("怎么申请退款？", LEXICON), Question("QH-40302", LEXICON)
    assert refund.confidence(TEXTS[0], 0.7) > 0.6 > 0.35 > refund.confidence(TEXTS[3], 0.05)
    assert code.confidence(TEXTS[2], 0.5) > 0.6
    assert Question("世界上最高的山是哪座", LEXICON).confidence(TEXTS[0], 0.2) < 0.1


@pytest.mark.parametrize("said", ["你好", "谢谢", "", "  ", "😀", "请问在吗"])
def test_greetings_are_sure_of_nothing(said: str) -> None:
    assert Question(said, LEXICON).confidence(TEXTS[0], 0.9) == 0.0


def test_a_model_that_tells_nothing_apart_changes_little() -> None:
    blunt = Question("怎么申请退款？", LEXICON, (0.6, 0.61))
    assert blunt.confidence(TEXTS[0], 0.7) == pytest.approx(blunt.confidence(TEXTS[0], 0.5), abs=0.05)
