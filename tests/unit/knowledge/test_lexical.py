"""What the lexical half promises about words, numbers and codes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from knowledge.models.lexical import Bm25, index_of, tokenize
from knowledge.models.lexicon import Lexicon
from knowledge.models.questions import content, is_empty_talk, is_identifier, question_tokens


def test_traditional_full_width_and_capital_letters_are_the_same_words() -> None:
    assert set(tokenize("發票抬頭")) == set(tokenize("发票抬头"))
    assert set(tokenize("ＡＰＩ　Ｋｅｙ")) == set(tokenize("api key"))


def test_a_chinese_word_is_found_in_a_longer_one() -> None:
    assert {"退款", "=退款", "款单"} <= set(tokenize("退款单"))


@pytest.mark.parametrize("number", ["10086", "404", "20260801123456789", "3.14"])
def test_numbers_are_kept_whole(number: str) -> None:
    assert number in tokenize(f"请拨打{number}。")


def test_grouped_digits_are_one_number() -> None:
    assert "12345678" in tokenize("12,345,678 行")
    assert "5000" in tokenize("最多5,000行")


def test_a_code_is_kept_whole_and_in_parts() -> None:
    assert {"qh-40302", "qh40302", "qh", "40302"} <= set(tokenize("错误码QH-40302"))
    assert {"orders.batchquery", "order", "batchquery", "batch", "query"} <= set(tokenize("orders.batchQuery"))
    assert {"snake_case_name", "snake", "case", "name"} <= set(tokenize("snake_case_name"))
    assert {"v1.2.3"} <= set(tokenize("升级到 v1.2.3"))
    assert {"c++", "c#"} <= set(tokenize("C++ 和 C#"))


def test_a_code_is_found_however_its_parts_are_joined() -> None:
    for written in ("QH40302", "qh-40302", "QH_40302"):
        assert "qh40302" in tokenize(written)
    assert "4008001234" in tokenize("400-800-1234")


def test_english_plurals_and_possessives_are_folded() -> None:
    assert tokenize("customers' refunds") == tokenize("customer refund")
    assert tokenize("user's") == tokenize("user")
    assert tokenize("status") == ["status"]


@pytest.mark.parametrize("text", ["", "  \n\t", "😀🎉", "。！？，", "\u0000", "\ud83d"])
def test_text_without_words_has_no_tokens(text: str) -> None:
    assert tokenize(text) == []


def test_tokens_have_the_same_number_everywhere() -> None:
    assert index_of("退款") == 1597123644
    assert 0 <= index_of("anything") < 2**32


def test_many_threads_can_cut_words_at_once() -> None:
    text = "怎么申请退款？订单号QH-40302，orders.batchQuery 報錯404。"
    with ThreadPoolExecutor(8) as threads:
        assert len({tuple(tokens) for tokens in threads.map(tokenize, [text] * 200)}) == 1


def test_a_passage_vector_is_sorted_saturated_and_shorter_for_longer_passages() -> None:
    bm25 = Bm25(average_length=4)
    once, often = bm25.passage(["a", "b"]), bm25.passage(["a"] * 50 + ["b"])
    assert once.indices == sorted(set(once.indices))
    value = dict(zip(often.indices, often.values, strict=True))
    assert value[index_of("a")] < bm25.k + 1
    assert value[index_of("b")] < once.values[0]


def test_a_question_counts_each_token_once() -> None:
    assert Bm25().query(["a", "a", "b"]).values == [1.0, 1.0]


def test_words_of_asking_count_half_and_alone_they_count() -> None:
    weights = question_tokens("怎么申请退款")
    assert weights["=退款"] == 1.0
    assert weights["=怎么"] == 0.5
    assert content("请问发票怎么开呢").split() == ["发票", "开"]
    assert question_tokens("怎么") == {"怎么": 1.0, "=怎么": 1.0}


def test_greetings_are_empty_talk_and_questions_are_not() -> None:
    assert all(is_empty_talk(said) for said in ("你好", "请问在吗？", "谢谢", "hello, please help", "😀", ""))
    assert not any(is_empty_talk(said) for said in ("退款", "10086", "how do I get a refund", "404"))


def test_only_an_identifier_is_one() -> None:
    assert all(is_identifier(said) for said in ("10086", "QH-40302 是什么", "orders.batchQuery", "E1001", "v1.2.3"))
    assert not any(is_identifier(said) for said in ("退款", "QH-40302 退款失败", "refund", "你好"))


def test_the_lexicon_knows_rare_from_common_and_survives_its_file(tmp_path) -> None:
    lexicon = Lexicon.of([["a", "b"], ["a"], ["a", "c"]])
    lexicon.save(tmp_path / "lexicon.bin")
    read = Lexicon.load(tmp_path / "lexicon.bin")
    assert read.passages == 3
    common, rare, unknown = read.idf(["a", "b", "never"])
    assert common == 0 < rare < unknown == 1
    assert read.counts_of(["c", "never"]) == [1, 0]


def test_an_empty_lexicon_takes_every_token_for_unknown() -> None:
    assert Lexicon.of([]).idf(["a"]) == [pytest.approx(0)] or Lexicon.of([]).counts_of(["a"]) == [0]
