"""An answer as server-sent events, with a ping while nothing comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import msgspec
import structlog
from litestar.response import ServerSentEventMessage

from serving.chat.dialogue import Reply
from serving.chat.language import SENTENCES
from serving.chat.messages import Cited, Delta, Event, Finished

_log = structlog.get_logger(__name__)

PING_SECONDS = 10.0
_AHEAD = 32  # events made before the customer's connection has taken them


def _message(event: str, data: dict[str, Any]) -> ServerSentEventMessage:
    return ServerSentEventMessage(event=event, data=msgspec.json.encode(data).decode(), sep="\n")


async def stream(reply: Reply, *, ping_seconds: float = PING_SECONDS) -> AsyncIterator[ServerSentEventMessage]:
    """`message_start`, then `delta` and `citation`, then `message_end`; `error` instead if something breaks.

    The answer is made in a task of its own, so that a ping can be sent while it waits, and is cancelled
    when the customer goes away.
    """
    exchange = reply.exchange
    ids = {"conversation_id": exchange.conversation_id, "message_id": exchange.message_id}
    yield _message(
        "message_start",
        {**ids, "language": exchange.language, "release": exchange.release, "degradation_level": 0},
    )
    queue: asyncio.Queue[Event | BaseException | None] = asyncio.Queue(_AHEAD)
    task = asyncio.create_task(_make(reply.events(), queue))
    try:
        while True:
            try:
                async with asyncio.timeout(ping_seconds):
                    event = await queue.get()
            except TimeoutError:
                # Without data=None it would be an empty event and not a comment.
                yield ServerSentEventMessage(comment="ping", data=None, sep="\n")
                continue
            match event:
                case Delta(text):
                    yield _message("delta", {"text": text})
                case Cited(citation):
                    yield _message("citation", msgspec.to_builtins(citation))
                case Finished():
                    answer = msgspec.to_builtins(exchange.as_answer(reply.degraded))
                    yield _message(
                        "message_end",
                        {name: value for name, value in answer.items() if name not in ("answer", "citations")},
                    )
                case BaseException():
                    _log.error("answer_failed", exc_info=event)
                    yield _message("error", {**ids, "detail": SENTENCES[exchange.language].failed})
                case None:
                    return
    finally:
        task.cancel()


async def _make(events: AsyncGenerator[Event, None], queue: asyncio.Queue[Event | BaseException | None]) -> None:
    try:
        async with aclosing(events):
            async for event in events:
                await queue.put(event)
    except Exception as error:
        await queue.put(error)
    await queue.put(None)
