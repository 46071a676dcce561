"""Answers of a language model over the evidence, and what happens when its endpoint misbehaves."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.support.chat_service import Chat, events
from tests.support.faults.llm_standin import Standin
from tests.support.waiting import until

pytest_plugins = ("tests.support.chat_service",)

QUESTION = "国内信用卡退款多久到账？"


@pytest.fixture(autouse=True)
def _speaks_normally(standin: Standin) -> None:
    standin.does()


def test_the_model_answers_from_numbered_evidence_and_its_citations_come_back(
    chat_with_llm: Chat, standin: Standin
) -> None:
    standin.does(pieces=["信用卡 5–10 个", "工作日到账 [", "1]，详见控制台【1】。"])
    answer = chat_with_llm.ask(QUESTION)
    assert answer["mode"] == "llm"
    assert answer["answer"] == "信用卡 5–10 个工作日到账 [1]，详见控制台[1]。"
    assert [citation["index"] for citation in answer["citations"]] == [1]
    assert answer["citations"][0]["uri"] == "docs/refunds.md"
    assert answer["usage"] == {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
    assert answer["finish_reason"] == "stop"
    assert answer["notice"] is None
    [request] = standin.requests
    system, question = request["messages"][0], request["messages"][-1]
    assert "[1]" in system["content"]
    assert "5–10 个工作日" in system["content"]
    assert question == {"role": "user", "content": QUESTION}
    assert request["stream"] is True
    assert standin.authorizations == ["bearer sk-very-secret-key"]


def test_words_come_as_the_model_says_them(chat_with_llm: Chat, standin: Standin) -> None:
    standin.does(pieces=["一", "二 [1]", "三"])
    found = chat_with_llm.stream(QUESTION)
    assert [event.name for event in found] == [
        "message_start", "delta", "delta", "citation", "delta", "message_end",
    ]  # fmt: skip
    assert found[-1].data["mode"] == "llm"


def test_numbers_of_evidence_that_does_not_exist_are_taken_out(chat_with_llm: Chat, standin: Standin) -> None:
    standin.does(pieces=["看这里 [1][99]，", "还有 [42]。`a[7]` 不变。"])
    answer = chat_with_llm.ask(QUESTION)
    assert answer["answer"] == "看这里 [1]，还有。`a[7]` 不变。"
    assert [citation["index"] for citation in answer["citations"]] == [1]


def test_an_answer_that_cites_nothing_comes_with_all_its_evidence(chat_with_llm: Chat, standin: Standin) -> None:
    standin.does(pieces=["五到十个工作日。"])
    answer = chat_with_llm.ask(QUESTION)
    assert [c["index"] for c in answer["citations"]] == list(range(1, len(answer["citations"]) + 1))
    assert answer["citations"]


def test_the_model_is_told_what_was_said_before(chat_with_llm: Chat, standin: Standin) -> None:
    standin.does(pieces=["五到十个工作日 [1]。"])
    first = chat_with_llm.ask(QUESTION)
    standin.does(pieces=["是的。"])
    chat_with_llm.ask("国内信用卡呢？", first["conversation_id"])
    said = [message["content"] for message in standin.requests[0]["messages"][1:]]
    assert said == [QUESTION, "五到十个工作日。", "国内信用卡呢？"]


def test_nothing_is_asked_of_the_model_without_evidence(chat_with_llm: Chat, standin: Standin) -> None:
    assert chat_with_llm.ask("火星上的重力加速度是多少")["mode"] == "none"
    assert chat_with_llm.ask("你好")["mode"] == "none"
    assert standin.requests == []


@pytest.mark.parametrize(
    "dialect",
    [
        {"newline": "\r\n"},
        {"comments": True},
        {"usage": False},
        {"done": False},
        {"finish": None},
        {"whole": True},
        {"refuse_options": True},
    ],
    ids=lambda dialect: next(iter(dialect)),
)
def test_dialects_of_the_protocol_are_understood(
    chat_with_llm: Chat, standin: Standin, dialect: dict[str, Any]
) -> None:
    standin.does(pieces=["甲\u2028", "乙 [1]。"], **dialect)
    answer = chat_with_llm.ask(QUESTION)
    assert answer["mode"] == "llm"
    assert answer["answer"] == "甲\u2028乙 [1]。"
    assert answer["finish_reason"] == "stop"


def test_thoughts_are_not_shown(chat_with_llm: Chat, standin: Standin) -> None:
    standin.does(pieces=["<thi", "nk>客户问退款", "</think>\n\n五天", " [1]。"])
    assert chat_with_llm.ask(QUESTION)["answer"] == "五天 [1]。"


def test_an_answer_cut_by_its_length_says_so(chat_with_llm: Chat, standin: Standin) -> None:
    standin.does(finish="length")
    assert chat_with_llm.ask(QUESTION)["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("script", "requests"),
    [
        ({"status": 500}, 1),
        ({"status": 503}, 2),
        ({"status": 401}, 1),
        ({"status": 404}, 1),
        ({"drop": True}, 1),
        ({"hang_after": 0}, 1),
        ({"end_after": 0}, 1),
        ({"break_after": 0}, 1),
        ({"pieces": []}, 1),
        ({"pieces": ["  ", "\n"]}, 1),
    ],
    ids=str,
)
def test_a_failure_before_the_first_word_is_answered_with_quotes(
    chat_with_llm: Chat, standin: Standin, script: dict[str, Any], requests: int
) -> None:
    standin.does(**script)
    answer = chat_with_llm.ask(QUESTION)
    assert answer["mode"] == "extractive"
    assert "5–10 个工作日" in answer["answer"]
    assert "语言模型" in answer["notice"]
    assert answer["degraded"] == ["llm"]
    assert len(standin.requests) == requests


@pytest.mark.parametrize("status", [429, 502, 503])
def test_what_passes_is_tried_once_more(chat_with_llm: Chat, standin: Standin, status: int) -> None:
    standin.does(pieces=["五天 [1]。"], status=status, times=1)
    answer = chat_with_llm.ask(QUESTION)
    assert answer["mode"] == "llm"
    assert answer["degraded"] == []
    assert len(standin.requests) == 2


@pytest.mark.parametrize("script", [{"break_after": 2}, {"end_after": 2}, {"hang_after": 2}], ids=str)
def test_a_failure_in_mid_stream_closes_the_answer_with_a_notice(
    chat_with_llm: Chat, standin: Standin, script: dict[str, Any]
) -> None:
    standin.does(pieces=["五到十个", "工作日 [1]，\n```\ncode", "后面没有了"], **script)
    found = chat_with_llm.stream(QUESTION)
    text = "".join(event.data["text"] for event in found if event.name == "delta")
    assert text == "五到十个工作日 [1]，\n```\ncode\n```"
    end = found[-1]
    assert end.name == "message_end"
    assert end.data["finish_reason"] == "interrupted"
    assert "不完整" in end.data["notice"]
    assert end.data["degraded"] == ["llm"]


def test_a_customer_who_goes_away_stops_the_model_and_what_was_said_is_kept(
    chat_with_llm: Chat, standin: Standin
) -> None:
    standin.does(pieces=["第一句。", *["又一句。"] * 50], delay=0.1)
    body = {"message": QUESTION, "stream": True}
    with httpx.stream("POST", f"{chat_with_llm.url}/api/chat", json=body, timeout=30) as response:
        for event in events(response):
            if event.name == "message_start":
                conversation = event.data["conversation_id"]
            if event.name == "delta":
                break
    assert standin.gone.wait(10)
    address = f"{chat_with_llm.url}/api/conversations/{conversation}/messages"
    until(lambda: httpx.get(address).status_code == 200)
    answer = httpx.get(address).json()["messages"][1]
    assert answer["finish_reason"] == "cancelled"
    assert answer["content"].startswith("第一句。")


def test_a_refused_key_is_named_in_the_error_log_and_in_health_but_never_shown(
    chat_with_llm: Chat, standin: Standin
) -> None:
    standin.does(status=401)
    chat_with_llm.ask(QUESTION)
    assert any("LLM_API_KEY" in line.get("reason", "") for line in chat_with_llm.log("error"))
    health = until(lambda: (found := chat_with_llm.health())["components"]["llm"] == "unhealthy" and found)
    assert "LLM_API_KEY" in health["details"]["llm"]["reason"]
    assert health["status"] == "degraded"
    for name in ("app", "access", "error"):
        text = (chat_with_llm.folder / "logs" / f"{name}.log").read_text()
        assert "sk-very-secret-key" not in text
        assert QUESTION not in text


def test_a_model_that_the_endpoint_does_not_have_is_named_in_health(chat_with_llm: Chat, standin: Standin) -> None:
    standin.does(models=["another"])
    health = until(lambda: (found := chat_with_llm.health())["components"]["llm"] == "degraded" and found)
    assert "LLM_MODEL=stand-in" in health["details"]["llm"]["reason"]
    standin.does()
    until(lambda: chat_with_llm.health()["components"]["llm"] == "healthy")
