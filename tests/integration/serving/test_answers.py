"""What a customer gets without a language model: quotes with their sources, or an honest no."""

from __future__ import annotations

import uuid

import httpx
import pytest

from tests.support.chat_service import REFUNDS, Chat
from tests.support.waiting import until

pytest_plugins = ("tests.support.chat_service",)


def test_a_question_is_answered_from_the_documents_with_the_passage_it_rests_on(chat: Chat) -> None:
    answer = chat.ask("国内信用卡退款多久到账？")
    assert answer["mode"] == "extractive"
    assert answer["language"] == "zh"
    assert "5–10 个工作日" in answer["answer"]
    assert "[1]" in answer["answer"]
    assert answer["finish_reason"] == "stop"
    assert answer["notice"]
    assert answer["degraded"] == []
    first = answer["citations"][0]
    assert first["index"] == 1
    assert first["uri"] == "docs/refunds.md"
    assert first["title"] == "退款"
    assert REFUNDS[first["start"] : first["end"]].startswith(first["text"].rstrip("…"))
    assert first["url"] == f"/api/passages/{first['passage_id']}?release={answer['release']}"


def test_a_citation_opens_its_passage_in_the_document_it_was_cut_from(chat: Chat) -> None:
    [first, *_] = chat.ask("怎么申请退款？")["citations"]
    passage = httpx.get(chat.url + first["url"]).json()
    assert passage["before"] + passage["text"] + passage["after"] == REFUNDS
    assert passage["start"] == len(passage["before"]) == first["start"]
    assert passage["uri"] == "docs/refunds.md"
    assert passage["origin"] == "catalogue"


def test_a_passage_that_does_not_exist_is_not_found(chat: Chat) -> None:
    for name in (str(uuid.uuid4()), "not-a-uuid"):
        response = httpx.get(f"{chat.url}/api/passages/{name}")
        assert response.status_code == 404
        assert response.headers["content-type"] == "application/problem+json"


def test_a_streamed_answer_says_the_same_in_events(chat: Chat) -> None:
    whole = chat.ask("国内信用卡退款多久到账？")
    events = chat.stream("国内信用卡退款多久到账？")
    assert [events[0].name, events[-1].name] == ["message_start", "message_end"]
    text = "".join(event.data["text"] for event in events if event.name == "delta")
    assert text == whole["answer"]
    assert [event.data for event in events if event.name == "citation"] == whole["citations"]
    end = events[-1].data
    assert end["mode"] == "extractive"
    assert end["release"] == whole["release"]
    assert end["degradation_level"] == 0
    assert end["message_id"] == events[0].data["message_id"]


def test_an_accept_header_asks_for_a_stream_too(chat: Chat) -> None:
    headers = {"accept": "text/event-stream"}
    response = httpx.post(f"{chat.url}/api/chat", json={"message": "你好"}, headers=headers)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert "event: message_end" in response.text


@pytest.mark.parametrize(
    ("message", "said"), [("你好！", "您好"), ("谢谢", "不客气"), ("hi", "Hello"), ("Thank you!", "welcome")]
)
def test_small_talk_gets_a_friendly_word_and_no_citations(chat: Chat, message: str, said: str) -> None:
    answer = chat.ask(message)
    assert said in answer["answer"]
    assert answer["mode"] == "none"
    assert answer["citations"] == []


@pytest.mark.parametrize(
    ("message", "said"),
    [("火星上的重力加速度是多少", "没有找到"), ("kangaroo habitats near Canberra", "found nothing")],
)
def test_what_the_documents_do_not_say_is_not_answered(chat: Chat, message: str, said: str) -> None:
    answer = chat.ask(message)
    assert answer["mode"] == "none"
    assert said in answer["answer"]
    assert answer["citations"] == []


def test_a_short_follow_up_question_is_understood_with_the_one_before(chat: Chat) -> None:
    first = chat.ask("标准版每月多少钱？")
    followed = chat.ask("那每年呢？", first["conversation_id"])
    assert followed["conversation_id"] == first["conversation_id"]
    assert followed["citations"]
    assert followed["citations"][0]["uri"] == "docs/plans.md"


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b'{"message": ""}', 422, "empty"),
        (b'{"message": "   \\n"}', 422, "empty"),
        (b'{"message": 5}', 422, "message"),
        (b'{"message": null}', 422, "message"),
        (b"{}", 422, "message"),
        (b"[]", 422, ""),
        (b'{"message": "x", "conversation_id": 7}', 422, "conversation_id"),
        (b'{"message": "x", "conversation_id": "abc"}', 422, "conversation_id"),
        (b'{"message": "x", "stream": "yes"}', 422, "stream"),
        (b'{"message": "a\\u0000b"}', 422, "NUL"),
        (b'{"message": "a\\ud800b"}', 400, ""),
        (b'{"message": "\xff\xfe"}', 400, ""),
        (b'{"message": ', 400, "JSON"),
        (b"", 400, ""),
        (b'{"message": "' + b"a" * 2001 + b'"}', 422, "2000"),
        (b'{"message": "' + b"a" * 5_000_000 + b'"}', 413, "large"),
        (b"[" * 20_000, 400, ""),
    ],
)
def test_bad_input_is_refused_in_one_sentence(chat: Chat, body: bytes, status: int, says: str) -> None:
    response = httpx.post(f"{chat.url}/api/chat", content=body, headers={"content-type": "application/json"})
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    told = response.json()
    assert told["status"] == status
    assert says in told["detail"]
    assert "Traceback" not in response.text


def test_the_longest_message_that_is_allowed_is_taken(chat: Chat) -> None:
    assert chat.ask("退" * 2000)["answer"]


def test_addresses_and_methods_that_do_not_exist_are_told_so(chat: Chat) -> None:
    with chat.client() as client:
        assert client.get("/api/nothing").status_code == 404
        refused = client.get("/api/chat")
        assert refused.status_code == 405
        assert refused.headers["content-type"] == "application/problem+json"
        assert client.get("/static/../app.py").status_code == 404


def test_a_conversation_can_be_read_continued_and_deleted_by_who_knows_its_id(chat: Chat) -> None:
    first = chat.ask("国内信用卡退款多久到账？")
    chat.ask("怎么申请退款？", first["conversation_id"])
    address = f"{chat.url}/api/conversations/{first['conversation_id']}"
    page = httpx.get(f"{address}/messages").json()
    assert page["total"] == 4
    assert [message["role"] for message in page["messages"]] == ["customer", "assistant"] * 2
    assert page["messages"][1]["id"] == first["message_id"]
    assert page["messages"][1]["citations"] == first["citations"]
    until(lambda: httpx.get(f"{address}/messages?limit=1&offset=3").json()["total"] == 4)
    [last] = httpx.get(f"{address}/messages?limit=1&offset=3").json()["messages"]
    assert last["role"] == "assistant"
    assert httpx.delete(address).status_code == 204
    assert httpx.get(f"{address}/messages").status_code == 404
    assert httpx.delete(address).status_code == 404
    again = httpx.post(f"{chat.url}/api/chat", json={"message": "x", "conversation_id": first["conversation_id"]})
    assert again.status_code == 404


def test_a_conversation_that_never_was_is_not_found(chat: Chat) -> None:
    body = {"message": "你好", "conversation_id": str(uuid.uuid4())}
    response = httpx.post(f"{chat.url}/api/chat", json=body)
    assert response.status_code == 404
    assert "conversation_id" in response.json()["detail"]


def test_the_hit_test_shows_what_is_found_best_first_and_below_the_threshold_too(chat: Chat) -> None:
    response = httpx.post(f"{chat.url}/api/retrieval", json={"query": "签名 HMAC", "limit": 3})
    found = response.json()
    assert found["release"] == 1
    assert len(found["evidence"]) == 3
    assert found["evidence"][0]["uri"] == "docs/signing.md"
    assert {"document", "uri", "heading", "text", "start", "end", "score"} <= set(found["evidence"][0])
    nothing = httpx.post(f"{chat.url}/api/retrieval", json={"query": "火星上的重力加速度是多少"}).json()
    assert all(item["score"] < 0.35 for item in nothing["evidence"])
    assert httpx.post(f"{chat.url}/api/retrieval", json={"query": "x", "limit": 0}).status_code == 422


def test_the_page_loads_nothing_from_elsewhere_and_may_not(chat: Chat) -> None:
    with chat.client() as client:
        page = client.get("/")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'none'; script-src 'self'" in page.headers["content-security-policy"]
        assert page.headers["x-content-type-options"] == "nosniff"
        assert "智云客服" in page.text
        assert "//" not in page.text.replace("http://127.0.0.1", "").replace("<!--", "")
        files = {part.split('"')[0] for part in page.text.split('"/static/')[1:]}
        for file in files:
            asset = client.get(f"/static/{file}")
            assert asset.status_code == 200
            assert "immutable" in asset.headers["cache-control"]
        assert client.get("/schema/openapi.json").json()["paths"]["/api/chat"]
        schema = client.get("/schema")
        assert "POST /api/chat" in schema.text
        assert "<script" not in schema.text
