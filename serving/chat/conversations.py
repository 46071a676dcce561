"""Conversations: what was said before, and how what is said now gets into PostgreSQL off the request path."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import psycopg
import structlog
from psycopg.types.json import Jsonb

from serving.chat.activity import Activity
from serving.chat.messages import ConversationMessages, Exchange, StoredMessage, Turn
from serving.database import Connection, Database, DatabaseDown
from serving.operations import metrics

_log = structlog.get_logger(__name__)

TURNS = 6  # messages given to a question as its context
_WAITING = 1000  # exchanges that wait for the database at most
_BATCH = 100
_GATHER = 0.05  # seconds that the first exchange of a batch waits for others
_RECENT = 2000  # conversations whose last turns are remembered in this process
_READ_SECONDS = 1.0  # a customer waits for this


class UnknownConversation(LookupError):
    """There is no conversation with this id."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A conversation's last turns, oldest first; `complete` is False when the database could not be asked."""

    turns: tuple[Turn, ...]
    complete: bool


class Writer:
    """Writes exchanges in batches, again and again while the database is away, and drops what is too much."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: deque[Exchange] = deque()
        self._wake = asyncio.Event()
        self._busy = asyncio.Lock()
        self._warned = float("-inf")

    def put(self, exchange: Exchange) -> None:
        """Store an exchange soon."""
        if len(self._waiting) >= _WAITING:
            self._drop(1, "too many wait for the database")
            return
        self._waiting.append(exchange)
        metrics.MESSAGES_WAITING.set(2 * len(self._waiting))
        self._wake.set()

    def unsaved(self, conversation_id: UUID) -> list[Exchange]:
        """Exchanges of a conversation that the database does not have yet."""
        return [exchange for exchange in self._waiting if exchange.conversation_id == conversation_id]

    async def discard(self, conversation_id: UUID) -> None:
        """Forget what waits of a conversation, after the batch that is being written."""
        async with self._busy:
            kept = [e for e in self._waiting if e.conversation_id != conversation_id]
            self._waiting.clear()
            self._waiting.extend(kept)

    async def run(self) -> None:
        """Write until cancelled."""
        pause = 0.5
        while True:
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(_GATHER)
            while self._waiting:
                if await self._write_some():
                    pause = 0.5
                else:
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, 5.0)

    async def flush(self, seconds: float) -> None:
        """Write what waits, on the way out; what is not written within `seconds` is dropped and counted."""
        try:
            async with asyncio.timeout(seconds):
                while self._waiting and await self._write_some():
                    pass
        except TimeoutError:
            pass
        if self._waiting:
            self._drop(len(self._waiting), "the service stopped while the database was away")

    async def _write_some(self) -> bool:
        async with self._busy:
            batch = [self._waiting[at] for at in range(min(_BATCH, len(self._waiting)))]
            if not batch:
                return True
            try:
                async with self._database.connection(10.0) as connection:
                    written = await _write_batch(connection, batch)
            except DatabaseDown:
                return False
            except psycopg.errors.UndefinedTable:
                self._complain("the tables are missing; run: python -m migrations upgrade")
                return False
            for _ in batch:
                self._waiting.popleft()
            metrics.MESSAGES_WAITING.set(2 * len(self._waiting))
        if written < len(batch):
            self._drop(len(batch) - written, "the database refused them")
        return True

    def _drop(self, exchanges: int, reason: str) -> None:
        metrics.MESSAGES_DROPPED.inc(2 * exchanges)
        self._complain(reason)

    def _complain(self, reason: str) -> None:
        if time.monotonic() - self._warned > 30:
            self._warned = time.monotonic()
            _log.error("messages_not_stored", reason=reason, waiting=2 * len(self._waiting))


class Conversations:
    """Reading, continuing and deleting conversations: who knows the id may do all three."""

    def __init__(self, database: Database, activity: Activity, writer: Writer) -> None:
        self._database = database
        self._activity = activity
        self._writer = writer
        self._recent: OrderedDict[UUID, deque[Turn]] = OrderedDict()

    async def open(self, conversation_id: UUID) -> Opened:
        """The last turns of a conversation. Raises UnknownConversation when the database is sure of it."""
        unsaved = self._writer.unsaved(conversation_id)
        here = tuple(self._recent.get(conversation_id, ()))
        if not self._database.up:
            return Opened(here, complete=False)
        try:
            async with self._database.connection(_READ_SECONDS) as connection:
                rows = await (
                    await connection.execute(
                        "SELECT id, role, content FROM chat.messages WHERE conversation_id = %s"
                        " ORDER BY created_at DESC, id DESC LIMIT %s",
                        (conversation_id, TURNS),
                    )
                ).fetchall()
        except (DatabaseDown, psycopg.Error):
            return Opened(here, complete=False)
        if not rows and not unsaved and not await self._activity.knows(conversation_id):
            raise UnknownConversation
        known = {row[0] for row in rows}
        turns = [Turn(role, content) for _, role, content in reversed(rows)]
        for exchange in unsaved:
            if exchange.message_id not in known:  # it may have been written just now
                turns += _turns(exchange)
        return Opened(tuple(turns[-TURNS:]), complete=True)

    def begun(self, conversation_id: UUID) -> None:
        """A message came in."""
        self._activity.touch(conversation_id)

    def record(self, exchange: Exchange) -> None:
        """Keep a finished exchange: here at once, in the database soon."""
        recent = self._recent.setdefault(exchange.conversation_id, deque(maxlen=TURNS))
        recent.extend(_turns(exchange))
        self._recent.move_to_end(exchange.conversation_id)
        while len(self._recent) > _RECENT:
            self._recent.popitem(last=False)
        self._writer.put(exchange)

    async def messages(self, conversation_id: UUID, limit: int, offset: int) -> ConversationMessages:
        """A page of a conversation, oldest first. Raises UnknownConversation, DatabaseDown."""
        unsaved = [message for e in self._writer.unsaved(conversation_id) for message in _messages(e)]
        async with self._database.connection(5.0) as connection, connection.transaction():
            # One snapshot: a batch may be committed between two reads.
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            cursor = await connection.execute(
                "SELECT id FROM chat.messages WHERE id = ANY(%s)", ([message.id for message in unsaved],)
            )
            written = {row[0] for row in await cursor.fetchall()}
            cursor = await connection.execute(
                "SELECT message_count FROM chat.conversations WHERE id = %s", (conversation_id,)
            )
            found = await cursor.fetchone()
            cursor = await connection.execute(
                "SELECT id, role, content, language, created_at, mode, finish_reason, release, citations"
                " FROM chat.messages WHERE conversation_id = %s ORDER BY created_at, id LIMIT %s OFFSET %s",
                (conversation_id, limit, offset),
            )
            rows = await cursor.fetchall()
        stored = [StoredMessage(*row) for row in rows]
        unsaved = [message for message in unsaved if message.id not in written]
        if found is None and not unsaved:
            raise UnknownConversation
        total = (found[0] if found else 0) + len(unsaved)
        room = limit - len(stored)
        skip = max(0, offset - (found[0] if found else 0))
        stored += unsaved[skip : skip + room]
        return ConversationMessages(conversation_id, stored, total=total, limit=limit, offset=offset)

    async def delete(self, conversation_id: UUID) -> None:
        """Delete a conversation with its messages. Raises UnknownConversation, DatabaseDown."""
        unsaved = self._writer.unsaved(conversation_id)
        await self._writer.discard(conversation_id)
        self._recent.pop(conversation_id, None)
        async with self._database.connection(5.0) as connection:
            cursor = await connection.execute("DELETE FROM chat.conversations WHERE id = %s", (conversation_id,))
        await self._activity.forget(conversation_id)
        if cursor.rowcount == 0 and not unsaved:
            raise UnknownConversation


def _turns(exchange: Exchange) -> list[Turn]:
    return [Turn("customer", exchange.question), Turn("assistant", exchange.answer)]


def _answered_at(exchange: Exchange) -> datetime:
    return exchange.asked_at + timedelta(milliseconds=max(1, exchange.duration_ms))


def _messages(exchange: Exchange) -> list[StoredMessage]:
    done = exchange.finished
    return [
        StoredMessage(exchange.question_id, "customer", exchange.question, exchange.language, exchange.asked_at),
        StoredMessage(
            exchange.message_id,
            "assistant",
            exchange.answer,
            exchange.language,
            _answered_at(exchange),
            done.mode,
            done.finish_reason,
            exchange.release,
            msgspec.to_builtins(exchange.citations),
        ),
    ]


async def _write_batch(connection: Connection, batch: Sequence[Exchange]) -> int:
    """Write exchanges together or, where one is refused, one by one. Gives how many were written."""
    try:
        await _write(connection, batch)
    except (psycopg.DataError, psycopg.IntegrityError, UnicodeError) as error:
        if len(batch) == 1:
            # The error's text would hold the message.
            _log.error("message_refused", error=type(error).__name__, sqlstate=getattr(error, "sqlstate", None))
            return 0
        return sum([await _write_batch(connection, [exchange]) for exchange in batch])
    return len(batch)


async def _write(connection: Connection, batch: Sequence[Exchange]) -> None:
    """Idempotent, so that a batch whose commit was not heard of can be written again."""
    now = datetime.now(UTC)
    ordered = sorted(batch, key=lambda e: e.conversation_id)  # one order of locks for all workers
    rows: list[tuple[Any, ...]] = []
    for exchange in ordered:
        usage = Jsonb(msgspec.to_builtins(exchange.finished.usage)) if exchange.finished.usage else None
        for message in _messages(exchange):
            answer = message.role == "assistant"
            rows.append(
                (
                    message.id, exchange.conversation_id, message.role, message.content, message.language,
                    message.mode, message.finish_reason, message.release, Jsonb(message.citations),
                    usage if answer else None, exchange.finished.error if answer else None,
                    exchange.duration_ms if answer else None, message.created_at,
                )
            )  # fmt: skip
    async with connection.transaction(), connection.cursor() as cursor:
        await cursor.executemany(
            "INSERT INTO chat.conversations (id, language, created_at, updated_at) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT (id) DO UPDATE"
            " SET updated_at = greatest(conversations.updated_at, excluded.updated_at)",
            [(e.conversation_id, e.language, e.asked_at, min(_answered_at(e), now)) for e in ordered],
        )
        await cursor.executemany(
            "INSERT INTO chat.messages (id, conversation_id, role, content, language, mode, finish_reason,"
            " release, citations, usage, error, duration_ms, created_at)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (id) DO NOTHING",
            rows,
        )
        await cursor.execute(
            "UPDATE chat.conversations c SET message_count ="
            " (SELECT count(*) FROM chat.messages m WHERE m.conversation_id = c.id) WHERE c.id = ANY(%s)",
            ([e.conversation_id for e in ordered],),
        )
