"""The language model: any endpoint that speaks OpenAI's chat completions, streamed.

Servers differ: some send keep-alive comments, leave out `usage` or `[DONE]`, end lines with CRLF, put
thoughts in `<think>` tags, refuse `stream_options`, or answer a streamed request with one JSON body. All
of that is taken.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

import httpx
import msgspec
import structlog
from msgspec import Struct

from serving.chat.messages import FinishReason, Usage
from serving.operations import metrics
from zhiyun.settings import LlmSettings

_log = structlog.get_logger(__name__)

_RETRIED = {429, 502, 503}
_RETRY_PAUSE = 0.3  # seconds; a customer is waiting
_LONGEST_LINE = 1_000_000
_FINISH: dict[str, FinishReason] = {"length": "length", "content_filter": "content_filter"}


class LlmFailed(RuntimeError):
    """The model gave no answer, or broke off. The message is one sentence without any of the content."""

    def __init__(self, reason: str, *, retry: bool = False) -> None:
        super().__init__(reason)
        self.retry = retry


@dataclass(frozen=True, slots=True)
class Completed:
    """The end of a completion."""

    finish_reason: FinishReason
    usage: Usage | None


class Llm:
    """A client of the endpoint in LLM_BASE_URL. `client` is shared and owned by the caller."""

    def __init__(self, settings: LlmSettings, client: httpx.AsyncClient) -> None:
        self._settings = settings
        self._client = client
        self._url = settings.base_url.rstrip("/") + "/chat/completions"
        self._stream_options = True

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._settings.api_key}"} if self._settings.api_key else {}

    async def stream(self, messages: list[dict[str, str]]) -> AsyncGenerator[str | Completed, None]:
        """Pieces of the answer as they come, then one Completed.

        Connect errors and 429, 502, 503 before the first piece are tried once more. Raises LlmFailed.
        """
        started = time.monotonic()
        deadline = started + self._settings.timeout
        outcome = "failed"
        given = False
        try:
            for attempt in (1, 2):
                try:
                    async with aclosing(self._attempt(messages, deadline)) as pieces:
                        async for piece in pieces:
                            given = True
                            yield piece
                    outcome = "ok"
                    return
                except LlmFailed as failure:
                    if given or not failure.retry or attempt == 2:
                        raise
                    _log.warning("llm_retried", reason=str(failure))
                    await asyncio.sleep(_RETRY_PAUSE)
        except (GeneratorExit, asyncio.CancelledError):
            outcome = "cancelled"
            raise
        finally:
            metrics.LLM_TIME.labels(outcome).observe(time.monotonic() - started)

    async def _attempt(self, messages: list[dict[str, str]], deadline: float) -> AsyncGenerator[str | Completed, None]:
        first = min(deadline, time.monotonic() + self._settings.first_token_timeout)
        response = await self._within(first, self._send(messages))
        try:
            pieces = self._pieces(response)
            limit = first
            async with aclosing(pieces):
                while True:
                    try:
                        piece = await self._within(limit, anext(pieces))
                    except StopAsyncIteration:
                        return
                    if piece == "":  # a role, or thoughts: the customer still waits for the first word
                        continue
                    limit = deadline
                    yield piece
        finally:
            await response.aclose()

    async def _within(self, limit: float, step: Any) -> Any:
        """Await one step until `limit` (monotonic clock); what goes wrong with it becomes an LlmFailed."""
        try:
            async with asyncio.timeout(max(limit - time.monotonic(), 0.001)):
                return await step
        except TimeoutError:
            reason = "the language model took too long (LLM_FIRST_TOKEN_TIMEOUT, LLM_TIMEOUT)"
            raise LlmFailed(reason) from None
        except httpx.ConnectTimeout as error:
            reason = "the endpoint at LLM_BASE_URL did not accept the connection in time (LLM_CONNECT_TIMEOUT)"
            raise LlmFailed(reason, retry=True) from error
        except httpx.ConnectError as error:
            reason = f"the endpoint at LLM_BASE_URL cannot be reached: {error}"
            raise LlmFailed(reason, retry=True) from error
        except httpx.HTTPError as error:
            reason = f"the connection to the language model broke ({type(error).__name__})"
            raise LlmFailed(reason) from error

    async def _send(self, messages: list[dict[str, str]]) -> httpx.Response:
        body: dict[str, Any] = {
            "model": self._settings.model,
            "messages": messages,
            "stream": True,
            "max_tokens": self._settings.max_tokens,
            "temperature": self._settings.temperature,
        }
        if self._stream_options:
            body["stream_options"] = {"include_usage": True}
        request = self._client.build_request(
            "POST",
            self._url,
            json=body,
            headers={"accept": "text/event-stream", **self.headers},
            timeout=httpx.Timeout(self._settings.timeout, connect=self._settings.connect_timeout),
        )
        response = await self._client.send(request, stream=True)
        if response.is_success:
            return response
        status = response.status_code
        await response.aclose()
        if status in (400, 422) and self._stream_options:
            self._stream_options = False  # older servers refuse what they do not know
            return await self._send(messages)
        raise _refused(status, self._settings)

    async def _pieces(self, response: httpx.Response) -> AsyncGenerator[str | Completed, None]:
        """The content of a response, an empty string for each sign of life without content."""
        if "event-stream" not in response.headers.get("content-type", ""):
            text, completed = _whole(await response.aread())
            yield text
            yield completed
            return
        finish: FinishReason | None = None
        usage: Usage | None = None
        done = given = False
        thoughts = _Thoughts()
        async for data in _events(response):
            if data == b"[DONE]":
                done = True
                break
            chunk = _decoded(data)
            usage = _usage(chunk) or usage
            for choice in chunk.choices or ():
                text = thoughts.without((choice.delta and choice.delta.content) or "")
                given = given or bool(text.strip())
                yield text
                if choice.finish_reason:
                    finish = _FINISH.get(choice.finish_reason, "stop")
        rest = thoughts.end()
        if rest:
            given = given or bool(rest.strip())
            yield rest
        if finish is None and not done:
            raise LlmFailed("the language model's answer broke off before its end")
        if not given:
            raise LlmFailed("the language model gave an empty answer")
        yield Completed(finish or "stop", usage)


class _Thoughts:
    """Takes a leading `<think>…</think>` out of a streamed answer."""

    def __init__(self) -> None:
        self._held = ""
        self._state = "start"

    def without(self, text: str) -> str:
        if self._state == "answer":
            return text
        self._held += text
        if self._state == "start":
            start = self._held.lstrip()
            if start.startswith("<think>"):
                self._state = "thinking"
            elif "<think>".startswith(start):
                return ""
            else:
                return self._release(self._held)
        _, end, answer = self._held.partition("</think>")
        return self._release(answer.lstrip()) if end else ""

    def end(self) -> str:
        held = self._held if self._state == "start" else ""
        self._held = ""
        return held

    def _release(self, text: str) -> str:
        self._state, self._held = "answer", ""
        return text


async def _events(response: httpx.Response) -> AsyncIterator[bytes]:
    """The data of each server-sent event. Lines end with LF or CRLF only: U+2028 may stand in the content."""
    held = b""
    async for block in response.aiter_bytes():
        held += block
        *lines, held = held.split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()
        if len(held) > _LONGEST_LINE:
            raise LlmFailed("the language model's answer is no event stream")
    if held.startswith(b"data:"):
        yield held[5:].strip()


class _Text(Struct):
    content: str | None = None


class _Choice(Struct):
    delta: _Text | None = None
    message: _Text | None = None
    finish_reason: str | None = None


class _Chunk(Struct):
    choices: list[_Choice] | None = None
    usage: Any = None
    error: Any = None


_chunk = msgspec.json.Decoder(_Chunk)


def _decoded(data: bytes) -> _Chunk:
    try:
        chunk = _chunk.decode(data)
    except msgspec.MsgspecError:
        raise LlmFailed("the language model's answer is not what the protocol says") from None
    if chunk.error:
        raise LlmFailed("the language model reported an error")
    return chunk


def _whole(body: bytes) -> tuple[str, Completed]:
    chunk = _decoded(body)
    choice = chunk.choices[0] if chunk.choices else _Choice()
    thoughts = _Thoughts()
    text = thoughts.without((choice.message and choice.message.content) or "") + thoughts.end()
    if not text.strip():
        raise LlmFailed("the language model gave an empty answer")
    return text, Completed(_FINISH.get(choice.finish_reason or "", "stop"), _usage(chunk))


def _usage(chunk: _Chunk) -> Usage | None:
    if not isinstance(chunk.usage, dict):
        return None
    usage = cast("dict[str, Any]", chunk.usage)
    counts = {name: usage.get(name) for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
    return Usage(**{name: count for name, count in counts.items() if isinstance(count, int)})


def _refused(status: int, settings: LlmSettings) -> LlmFailed:
    if status in (401, 403):
        reason = f"the endpoint at LLM_BASE_URL refused LLM_API_KEY (HTTP {status}); check LLM_API_KEY"
        _log.error("llm_refused", reason=reason, base_url=settings.base_url)
    elif status == 404:
        reason = f"no chat completions or no model {settings.model!r} there; check LLM_BASE_URL and LLM_MODEL"
        _log.error("llm_refused", reason=reason, base_url=settings.base_url)
    else:
        reason = f"the language model's endpoint answered HTTP {status}"
    return LlmFailed(reason, retry=status in _RETRIED)
