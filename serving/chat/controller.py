"""The chat over HTTP."""

from __future__ import annotations

import re
from contextlib import aclosing
from typing import Annotated, Any, cast
from uuid import UUID

import structlog
from litestar import Controller, Request, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.response import ServerSentEvent

from knowledge.retrieval.retriever import NoLiveRelease, VectorStoreDown
from serving.chat import events
from serving.chat.answering import ModelUnavailable
from serving.chat.conversations import Conversations, UnknownConversation
from serving.chat.dialogue import Dialogue
from serving.chat.messages import ChatAnswer, ChatRequest, ConversationMessages
from serving.configuration import Configuration
from serving.database import DatabaseDown
from serving.operations.fence import unfenced
from serving.problems import problem

_log = structlog.get_logger(__name__)

_SURROGATE = re.compile("[\ud800-\udfff]")
_RETRY_SECONDS = 5
_FIRST_RELEASE_SECONDS = 15


def checked(text: str, limit: int, name: str = "message") -> str:
    """The text without blanks around it. Raises a problem (422) when it cannot be answered or stored."""
    text = text.strip()
    if not text:
        raise problem(422, f"{name}: is empty; write a question.")
    if len(text) > limit:
        raise problem(422, f"{name}: has {len(text)} characters, more than the {limit} that are allowed.")
    if "\0" in text:
        raise problem(422, f"{name}: contains a NUL character (U+0000), which cannot be stored.")
    if _SURROGATE.search(text):
        raise problem(422, f"{name}: contains half a surrogate pair, which is no character.")
    return text


class ChatController(Controller):
    path = "/api"
    tags = ("chat",)
    guards = (unfenced,)

    @post(
        "/chat",
        status_code=200,
        summary="Ask a question",
        responses={
            404: ResponseSpec(data_container=dict[str, Any], description="The conversation is not known."),
            422: ResponseSpec(data_container=dict[str, Any], description="The message cannot be answered."),
            503: ResponseSpec(data_container=dict[str, Any], description="The knowledge base is not available."),
        },
    )
    async def chat(
        self,
        request: Request[Any, Any, Any],
        data: JSONBody[ChatRequest],
        dialogue: NamedDependency[Dialogue],
        configuration: NamedDependency[Configuration],
    ) -> Response[ChatAnswer]:
        """Answers from the knowledge base: as JSON, or as server-sent events when `stream` is true or the
        request accepts `text/event-stream`. The events are `message_start`, `delta` {text}, `citation`,
        `message_end`, and `error` where something broke."""
        question = checked(data.message, configuration.serving.max_message_chars)
        try:
            reply = await dialogue.begin(question, data.conversation_id)
        except UnknownConversation:
            raise problem(404, "conversation_id: there is no such conversation; leave it out to begin one.") from None
        if data.stream or "text/event-stream" in request.headers.get("accept", ""):
            return cast("Response[ChatAnswer]", ServerSentEvent(events.stream(reply)))
        async with aclosing(reply.events()) as made:
            async for _ in made:
                pass
        return Response(reply.exchange.as_answer(reply.degraded))

    @get("/conversations/{conversation_id:uuid}/messages", summary="Read a conversation")
    async def messages(
        self,
        conversation_id: FromPath[UUID],
        conversations: NamedDependency[Conversations],
        limit: Annotated[int, QueryParameter(ge=1, le=200)] = 50,
        offset: Annotated[int, QueryParameter(ge=0, le=1_000_000)] = 0,
    ) -> ConversationMessages:
        """The messages of a conversation, oldest first. Who knows the id may read it."""
        try:
            return await conversations.messages(conversation_id, limit, offset)
        except UnknownConversation:
            raise problem(404, "There is no such conversation.") from None

    @delete("/conversations/{conversation_id:uuid}", summary="Delete a conversation")
    async def forget(self, conversation_id: FromPath[UUID], conversations: NamedDependency[Conversations]) -> None:
        """Deletes a conversation with all its messages."""
        try:
            await conversations.delete(conversation_id)
        except UnknownConversation:
            raise problem(404, "There is no such conversation.") from None


def unavailable(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Turns what is down for the moment into 503 with Retry-After."""
    seconds = _RETRY_SECONDS
    if isinstance(error, NoLiveRelease):
        detail = "The knowledge base is being taken in and nothing is published yet; try again in a moment."
        seconds = _FIRST_RELEASE_SECONDS
    elif isinstance(error, VectorStoreDown | ModelUnavailable):
        _log.error("knowledge_unavailable", reason=str(error))
        detail = "The knowledge base cannot be searched at the moment; try again in a moment."
    else:
        detail = "Stored conversations cannot be reached at the moment; try again in a moment."
    return problem(503, detail, retry_after=seconds).to_response(request)


UNAVAILABLE = dict.fromkeys((NoLiveRelease, VectorStoreDown, ModelUnavailable, DatabaseDown), unavailable)
