"""The shapes of the chat: what comes in, what goes out, and the events in between."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from serving.chat.language import Language

Mode: TypeAlias = Literal["llm", "extractive", "none"]
FinishReason: TypeAlias = Literal["stop", "length", "content_filter", "interrupted", "cancelled"]
Role: TypeAlias = Literal["customer", "assistant"]


def new_id() -> UUID:
    """A UUID of version 7 (RFC 9562): ordered by time, so that rows are appended to their index."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds << 80) | int.from_bytes(os.urandom(10))
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    return UUID(int=value)


class ChatRequest(Struct, frozen=True):
    """A customer's message. Without `conversation_id` a new conversation begins."""

    message: Annotated[str, Meta(description="The question, at most SERVING_MAX_MESSAGE_CHARS characters.")]
    conversation_id: UUID | None = None
    stream: Annotated[bool, Meta(description="Answer as server-sent events.")] = False


class Citation(Struct, frozen=True):
    """A passage that the answer rests on; `[index]` in the text refers to it."""

    index: int
    passage_id: str
    document: str
    uri: str
    title: str
    heading: tuple[str, ...]
    text: Annotated[str, Meta(description="The beginning of the passage.")]
    start: Annotated[int, Meta(description="Where the passage starts in the document's text, in characters.")]
    end: int
    score: Annotated[float, Meta(description="Confidence, from 0 to 1.")]
    url: Annotated[str, Meta(description="Where the whole passage can be read in its place.")]


class Usage(Struct, frozen=True):
    """Tokens, as the language model's endpoint counted them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class ChatAnswer(Struct, frozen=True):
    """A whole answer."""

    conversation_id: UUID
    message_id: UUID
    answer: str
    mode: Mode
    language: Language
    citations: list[Citation]
    release: Annotated[int | None, Meta(description="The knowledge release it was answered from.")]
    finish_reason: FinishReason
    notice: Annotated[str | None, Meta(description="What the customer should know about this answer.")]
    usage: Usage | None
    degraded: Annotated[list[str], Meta(description="What did not work: `history`, `llm`.")]
    degradation_level: int = 0


class StoredMessage(Struct, frozen=True):
    """A message of a conversation, as it was stored."""

    id: UUID
    role: Role
    content: str
    language: str
    created_at: datetime
    mode: str | None = None
    finish_reason: str | None = None
    release: int | None = None
    citations: list[dict[str, Any]] = msgspec.field(default_factory=list[dict[str, Any]])


class ConversationMessages(Struct, frozen=True):
    """A page of a conversation's messages, oldest first."""

    conversation_id: UUID
    messages: list[StoredMessage]
    total: int
    limit: int
    offset: int


@dataclass(frozen=True, slots=True)
class Turn:
    """What was said before, as context of a question."""

    role: Role
    content: str


# What happens while an answer is made, in this order: Delta and Cited as they come, then one Finished.


@dataclass(frozen=True, slots=True)
class Delta:
    text: str


@dataclass(frozen=True, slots=True)
class Cited:
    citation: Citation


@dataclass(frozen=True, slots=True)
class Finished:
    mode: Mode
    finish_reason: FinishReason
    notice: str | None = None
    usage: Usage | None = None
    degraded: tuple[str, ...] = ()
    error: str | None = None


Event: TypeAlias = Delta | Cited | Finished


@dataclass(slots=True)
class Exchange:
    """A question with its answer while it is made; stored as one when it is done."""

    conversation_id: UUID
    question: str
    language: Language
    asked_at: datetime
    question_id: UUID = field(default_factory=new_id)
    message_id: UUID = field(default_factory=new_id)
    release: int | None = None
    answer: str = ""
    citations: list[Citation] = field(default_factory=list[Citation])
    finished: Finished = Finished(mode="none", finish_reason="cancelled")
    duration_ms: int = 0

    def take(self, event: Event) -> None:
        """Keep what an event adds to the answer."""
        match event:
            case Delta(text):
                self.answer += text
            case Cited(citation):
                self.citations.append(citation)
            case Finished():
                self.finished = event

    def as_answer(self, degraded: tuple[str, ...]) -> ChatAnswer:
        done = self.finished
        return ChatAnswer(
            conversation_id=self.conversation_id,
            message_id=self.message_id,
            answer=self.answer,
            mode=done.mode,
            language=self.language,
            citations=self.citations,
            release=self.release,
            finish_reason=done.finish_reason,
            notice=done.notice,
            usage=done.usage,
            degraded=sorted({*degraded, *done.degraded}),
        )
