"""A language model's endpoint for tests: real HTTP in OpenAI's shapes, told what to do by the test.

It can answer in pieces, be slow, hang, refuse, break off in mid-stream, and speak in the dialects that servers have.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Script:
    """What the endpoint does with a request."""

    pieces: list[str] = field(default_factory=lambda: ["好的。"])
    status: int = 200  # another one is a refusal
    times: int | None = None  # how many requests are refused or dropped before it answers; None: all
    drop: bool = False  # close the connection without an answer
    hang_after: int | None = None  # pieces, then silence
    break_after: int | None = None  # pieces, then the connection breaks
    end_after: int | None = None  # pieces, then the stream ends as if all were said
    delay: float = 0.0  # seconds before each piece
    finish: str | None = "stop"
    usage: bool = True
    done: bool = True
    whole: bool = False  # one JSON body
    newline: str = "\n"
    comments: bool = False
    refuse_options: bool = False
    models: list[str] = field(default_factory=lambda: ["stand-in"])
    models_status: int | None = None  # of the list of models; `status` without it


class Standin:
    """The running endpoint. `script` may be replaced at any time; `requests` are the bodies that came in."""

    def __init__(self) -> None:
        self.script = Script()
        self.requests: list[dict[str, Any]] = []
        self.authorizations: list[str] = []
        self.gone = threading.Event()  # a client went away before the end
        self.url = ""
        self._refused = 0

    def does(self, **script: Any) -> None:
        """Act like this from now on."""
        self.script = Script(**script)
        self.requests.clear()
        self.authorizations.clear()
        self.gone.clear()
        self._refused = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.gone.set()
        finally:
            with suppress(ConnectionError):
                writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        script = self.script
        if head.startswith("GET") and "/models" in head.split(" ")[1]:
            listed = {"object": "list", "data": [{"id": name, "object": "model"} for name in script.models]}
            return await self._reply(writer, script.models_status or script.status, json.dumps(listed))
        asked = json.loads(body)
        self.requests.append(asked)
        self.authorizations.append(headers.get("authorization", ""))
        acting = script.times is None or self._refused < script.times
        if script.drop and acting:
            self._refused += 1
            return None
        if script.status != 200 and acting:
            self._refused += 1
            error = {"error": {"message": "no", "type": "invalid_request_error", "param": None, "code": None}}
            return await self._reply(writer, script.status, json.dumps(error))
        if script.refuse_options and "stream_options" in asked:
            return await self._reply(writer, 400, '{"error": {"message": "unknown field stream_options"}}')
        if script.whole:
            message = {"role": "assistant", "content": "".join(script.pieces)}
            choice = {"index": 0, "message": message, "finish_reason": script.finish}
            return await self._reply(writer, 200, json.dumps({"object": "chat.completion", "choices": [choice]}))
        return await self._stream(reader, writer, script)

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, script: Script) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        if script.comments:
            await self._send(writer, ": keep-alive" + script.newline * 2)
        await self._event(writer, script, {"role": "assistant", "content": ""})
        left = asyncio.ensure_future(reader.read(1))  # a client says no more: what comes is that it goes away
        for at, piece in enumerate(script.pieces):
            if script.hang_after == at:
                await asyncio.wait({left}, timeout=60)
                self.gone.set()
                return
            if script.break_after == at:
                writer.transport.abort()
                return
            if script.end_after == at:
                writer.write(b"0\r\n\r\n")
                return
            if script.delay:
                await asyncio.sleep(script.delay)
            if left.done():
                self.gone.set()
                return
            await self._event(writer, script, {"content": piece})
        if script.finish:
            await self._event(writer, script, {}, script.finish)
        if script.usage:
            counts = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
            await self._send(writer, f"data: {json.dumps({'choices': [], 'usage': counts})}" + script.newline * 2)
        if script.done:
            await self._send(writer, "data: [DONE]" + script.newline * 2)
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        left.cancel()

    async def _event(
        self, writer: asyncio.StreamWriter, script: Script, delta: dict[str, str], finish: str | None = None
    ) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "stand-in", "choices": [choice]}
        await self._send(writer, "data: " + json.dumps(chunk, ensure_ascii=False) + script.newline * 2)

    @staticmethod
    async def _send(writer: asyncio.StreamWriter, text: str) -> None:
        data = text.encode()
        writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await writer.drain()

    @staticmethod
    async def _reply(writer: asyncio.StreamWriter, status: int, text: str) -> None:
        data = text.encode()
        writer.write(
            f"HTTP/1.1 {status} -\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n"
            "connection: close\r\n\r\n".encode()
            + data
        )
        await writer.drain()


@contextmanager
def running() -> Iterator[Standin]:
    """A stand-in on a free port of its own, in a thread."""
    standin = Standin()
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        server = await asyncio.start_server(standin.serve, "127.0.0.1", 0)
        standin.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        ready.set()
        await stop.wait()
        server.close()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:  # cancels what is left
            runner.run(serve())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield standin
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(5)
