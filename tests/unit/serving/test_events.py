"""A streamed answer while its maker is slow, and when it breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

from serving.chat import events
from serving.chat.answering import Prepared
from serving.chat.dialogue import Reply
from serving.chat.messages import Delta, Event, Exchange, Finished, new_id


class _Maker:
    def __init__(self, *steps: Any) -> None:
        self.steps = steps
        self.ended = False

    async def answer(self, prepared: Prepared) -> AsyncGenerator[Event, None]:
        try:
            for step in self.steps:
                if isinstance(step, float):
                    await asyncio.sleep(step)
                elif isinstance(step, Exception):
                    raise step
                else:
                    yield step
        finally:
            self.ended = True


class _Records:
    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []
        self.came = asyncio.Event()

    def record(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)
        self.came.set()


def reply(*steps: Any) -> tuple[Reply, _Maker, _Records]:
    maker, records = _Maker(*steps), _Records()
    exchange = Exchange(new_id(), "问", "zh", datetime.now(UTC))
    prepared = Prepared("问", "zh", (), None)
    return Reply(exchange, prepared, (), 0.0, maker, records), maker, records  # type: ignore[arg-type]


async def text_of(answer: Reply, ping: float = 5.0) -> str:
    return "".join([message.encode().decode() async for message in events.stream(answer, ping_seconds=ping)])


async def test_a_slow_answer_is_kept_alive_with_comments() -> None:
    answer, _, records = reply(0.3, Delta("答"), Finished("llm", "stop"))
    said = await text_of(answer, ping=0.1)
    assert said.count(": ping\n\n") >= 2
    assert 'event: delta\ndata: {"text":"答"}\n\n' in said
    assert "event: message_end" in said
    assert [exchange.answer for exchange in records.exchanges] == ["答"]


async def test_what_breaks_in_mid_stream_ends_with_an_error_event() -> None:
    answer, _, records = reply(Delta("答"), RuntimeError("secret"))
    said = await text_of(answer)
    assert "event: error" in said
    assert "请再问一次" in said
    assert "secret" not in said
    assert len(records.exchanges) == 1


async def test_who_goes_away_ends_the_making_and_what_was_said_is_recorded() -> None:
    answer, maker, records = reply(Delta("一"), 60.0, Delta("二"))
    stream = events.stream(answer)
    async for message in stream:
        if "delta" in message.encode().decode():
            break
    await stream.aclose()  # type: ignore[attr-defined]
    await asyncio.wait_for(records.came.wait(), 10)
    assert maker.ended
    assert records.exchanges[0].answer == "一"
    assert records.exchanges[0].finished.finish_reason == "cancelled"


async def test_lines_in_an_answer_do_not_break_the_events() -> None:
    answer, *_ = reply(Delta("一\n\ndata: 二\r\n三"), Finished("llm", "stop"))
    said = await text_of(answer)
    assert 'data: {"text":"一\\n\\ndata: 二\\r\\n三"}' in said
