"""One message of a customer from beginning to end: context, answer, measurement, and the record of it."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from serving.chat.answering import Answering, Prepared
from serving.chat.conversations import Conversations
from serving.chat.messages import Event, Exchange, new_id
from serving.database import Database
from serving.operations import metrics


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer about to be made. `degraded` is what is known not to work before it begins."""

    exchange: Exchange
    prepared: Prepared
    degraded: tuple[str, ...]
    _started: float
    _answering: Answering
    _conversations: Conversations

    async def events(self) -> AsyncGenerator[Event, None]:
        """Make the answer. Whatever becomes of it, also when nobody listens any more, is recorded."""
        exchange = self.exchange
        try:
            async with aclosing(self._answering.answer(self.prepared)) as events:
                async for event in events:
                    exchange.take(event)
                    yield event
        finally:
            seconds = time.monotonic() - self._started
            exchange.duration_ms = round(seconds * 1000)
            metrics.MESSAGE_TIME.labels(exchange.finished.mode).observe(seconds)
            metrics.ANSWERS.labels(exchange.finished.mode).inc()
            self._conversations.record(exchange)


class Dialogue:
    """The chat without HTTP."""

    def __init__(self, answering: Answering, conversations: Conversations, database: Database) -> None:
        self._answering = answering
        self._conversations = conversations
        self._database = database

    async def begin(self, question: str, conversation_id: UUID | None) -> Reply:
        """Find what the answer rests on. Raises UnknownConversation, NoLiveRelease, VectorStoreDown."""
        started, asked_at = time.monotonic(), datetime.now(UTC)
        history, complete = (), self._database.up
        if conversation_id is not None:
            opened = await self._conversations.open(conversation_id)
            history, complete = opened.turns, opened.complete
        prepared = await self._answering.prepare(question, history)
        exchange = Exchange(
            conversation_id=conversation_id or new_id(),
            question=question,
            language=prepared.language,
            asked_at=asked_at,
            release=prepared.release,
        )
        self._conversations.begun(exchange.conversation_id)
        return Reply(
            exchange=exchange,
            prepared=prepared,
            degraded=() if complete else ("history",),
            _started=started,
            _answering=self._answering,
            _conversations=self._conversations,
        )
