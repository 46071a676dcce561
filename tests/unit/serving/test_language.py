"""The customer's language, and what is small talk."""

from __future__ import annotations

import pytest

from serving.chat.language import SENTENCES, detect, small_talk


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("怎么退款", "zh"),
        ("怎麼申請退款", "zh"),
        ("Kubernetes 怎么部署", "zh"),
        ("How do refunds work?", "en"),
        ("What does 退款 mean?", "en"),
        ("QH-40302", "en"),
        ("12345", "zh"),
        ("？？", "zh"),
    ],
)
def test_the_language_is_that_of_most_words_and_chinese_when_in_doubt(text: str, language: str) -> None:
    assert detect(text) == language


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("你好", "greeting"),
        ("您好！", "greeting"),
        ("Hi there!", "greeting"),
        ("hello 👋", "greeting"),
        ("在吗？", "greeting"),
        ("谢谢你", "thanks"),
        ("好的，谢谢！", "thanks"),
        ("謝謝", "thanks"),
        ("Thanks a lot", "thanks"),
        ("再见", "farewell"),
        ("Bye!", "farewell"),
        ("你好，怎么退款？", None),
        ("hi, how do I pay?", None),
        ("谢谢，那发票呢", None),
        ("早退怎么算", None),
        ("?", None),
    ],
)
def test_small_talk_is_the_whole_message_or_none(text: str, kind: str | None) -> None:
    assert small_talk(text) == kind


def test_i_do_not_know_points_to_the_person_that_is_set() -> None:
    for sentences in SENTENCES.values():
        assert "400-000-0000" in sentences.dont_know("400-000-0000")
        assert "{" not in sentences.dont_know("") + sentences.dont_know("x")
