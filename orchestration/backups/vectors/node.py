"""The vector store as backups and restores reach it: small calls with a short limit, and long ones that are watched."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import quote

import httpx

from orchestration.backups.recovery_point import BackupError
from zhiyun.logs import without_secrets
from zhiyun.settings import QdrantSettings

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

Say = Callable[[str], None]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Limits:
    """How long the node may take, in seconds.

    A snapshot of a large collection takes minutes, so `work` is generous; a node that hangs is told from one that works
    by its health: it is asked every `ask` seconds, and given up when it has been silent for `silence`. Bytes that flow
    may pause for `silence` too.
    """

    work: float = 6 * 3600
    silence: float = 60
    ask: float = 5


class NodeError(BackupError):
    """What the vector store did not do, in one sentence. `status` is that of HTTP, None where no answer came."""

    status: int | None = None


@dataclass(frozen=True, slots=True)
class About:
    """What runs there. `version` is the server's, or that of the embedded store's engine: what snapshots depend on."""

    engine: Literal["qdrant", "embedded"]
    version: str


class Node:
    """One vector store. Every failure of it is a NodeError: one sentence that names QDRANT_URL."""

    def __init__(self, settings: QdrantSettings, *, say: Say | None = None, limits: Limits | None = None) -> None:
        from qdrant_client import QdrantClient

        self.settings = settings
        self.say: Say = say or (lambda _: None)
        self.limits = limits or Limits()
        self.where = f"QDRANT_URL={without_secrets(settings.url)}"
        headers = {"api-key": settings.api_key} if settings.api_key else {}
        silence = self.limits.silence
        self.http = httpx.Client(
            base_url=settings.url.rstrip("/"),
            headers=headers,
            timeout=httpx.Timeout(connect=settings.timeout, read=silence, write=silence, pool=silence),
        )
        self.client = QdrantClient(
            url=settings.url, api_key=settings.api_key or None, timeout=settings.timeout, check_compatibility=False
        )

    def __enter__(self) -> Node:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.client.close()
        self.http.close()

    def small(self, what: str, call: Callable[[QdrantClient], _T]) -> _T:
        """The result of a call of the client; `what` is told where it fails, for example `list its collections`."""
        from qdrant_client.http.exceptions import ApiException, ResponseHandlingException

        try:
            return call(self.client)
        except (ApiException, ResponseHandlingException, httpx.HTTPError) as error:
            raise self.failed(what, error) from error

    def get(self, what: str, path: str) -> dict[str, Any]:
        """The JSON that a GET answers, whole."""
        try:
            response = self.http.get(path, timeout=self.settings.timeout)
        except httpx.HTTPError as error:
            raise self.failed(what, error) from error
        self.require(what, response)
        try:
            return response.json()
        except ValueError as error:
            raise NodeError(f"The vector store at {self.where} did not {what}: its answer is no JSON.") from error

    def about(self) -> About:
        """The engine and its version."""
        told = self.get("say what it is", "/")
        if engine := told.get("engine"):  # the embedded store's own word
            return About("embedded", str(engine).rpartition(" ")[2])
        return About("qdrant", str(told.get("version", "")))

    def config(self, collection: str) -> dict[str, Any]:
        """What GET /collections/NAME shows under `config`."""
        path = f"/collections/{quoted(collection)}"
        return self.get(f"show the collection {collection}", path)["result"]["config"]

    def names(self) -> list[str]:
        """All collections."""
        listed = self.small("list its collections", lambda client: client.get_collections().collections)
        return sorted(each.name for each in listed)

    def aliases(self) -> dict[str, str]:
        """Each alias with its collection."""
        listed = self.small("list its aliases", lambda client: client.get_aliases().aliases)
        return {each.alias_name: each.collection_name for each in sorted(listed, key=lambda each: each.alias_name)}

    def count(self, collection: str) -> int:
        """How many points there are, exactly. Counting is not a small call in a large collection."""
        body = {"exact": True}

        def ask() -> httpx.Response:
            path = f"/collections/{quoted(collection)}/points/count"
            return self.http.post(path, json=body, timeout=self.working())

        what = f"count the collection {collection}"
        response = self.watched(what, ask)
        self.require(what, response)
        return int(response.json()["result"]["count"])

    def working(self) -> httpx.Timeout:
        """For a call whose answer comes when the work is done; run it by `watched`."""
        return httpx.Timeout(
            connect=self.settings.timeout,
            read=self.limits.work,
            write=self.limits.silence,
            pool=self.limits.silence,
        )

    def watched(self, what: str, call: Callable[[], httpx.Response], given_up: threading.Event | None = None) -> Any:
        """Run a long call in a thread, and see to it that the node is alive meanwhile.

        A call cannot be stopped from outside: `given_up` is set when nobody waits for it any more.
        """
        done: list[httpx.Response] = []
        failure: list[BaseException] = []

        def run() -> None:
            try:
                done.append(call())
            except BaseException as error:
                failure.append(error)

        thread = threading.Thread(target=run, daemon=True, name="vector-store-call")
        thread.start()
        started = last_heard = time.monotonic()
        try:
            while True:
                thread.join(self.limits.ask)
                if not thread.is_alive():
                    break
                now = time.monotonic()
                if self._alive():
                    last_heard = now
                    self.say(f"waiting for the vector store to {what}, {now - started:.0f} s so far")
                elif now - last_heard > self.limits.silence:
                    raise NodeError(
                        f"The vector store at {self.where} did not {what}: it has not answered for "
                        f"{now - last_heard:.0f} s; see whether it hangs."
                    )
        except BaseException:
            if given_up is not None:
                given_up.set()
                thread.join(self.limits.silence)
            raise
        if failure:
            error = failure[0]
            if isinstance(error, httpx.HTTPError):
                raise self.failed(what, error) from error
            raise error
        return done[0]

    def _alive(self) -> bool:
        try:
            self.http.get("/healthz", timeout=min(self.settings.timeout, self.limits.silence))
        except httpx.HTTPError:
            return False
        return True

    def require(self, what: str, response: httpx.Response) -> None:
        """Raise NodeError unless the answer is a good one. The response must have been read."""
        if not response.is_success:
            error = NodeError(f"The vector store at {self.where} did not {what}: {_told(response)}.")
            error.status = response.status_code
            raise error

    def failed(self, what: str, error: Exception) -> NodeError:
        """What to raise for an error of a client."""
        from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

        status = None
        if isinstance(error, UnexpectedResponse):
            status = error.status_code
            told = _told(httpx.Response(error.status_code or 0, content=error.content))
        else:
            cause = error.source if isinstance(error, ResponseHandlingException) else error
            if isinstance(cause, httpx.TimeoutException):
                told = "it did not answer in time; see whether it hangs"
            else:
                lines = str(cause).strip().splitlines()
                told = f"the connection failed ({lines[-1].rstrip('.') if lines else type(cause).__name__})"
        made = NodeError(f"The vector store at {self.where} did not {what}: {told}.")
        made.status = status
        return made


def quoted(name: str) -> str:
    """A collection's or a snapshot's name in a path."""
    return quote(name, safe="")


def _told(response: httpx.Response) -> str:
    """The status, and the one sentence in Qdrant's error shape."""
    reason = ""
    try:
        status = response.json().get("status")
        reason = status.get("error", "") if isinstance(status, dict) else ""
    except (ValueError, AttributeError):
        reason = response.text.strip()
    reason = without_secrets(" ".join(str(reason).split()))[:300].rstrip(".")
    hint = "; make room on its disk" if response.status_code == 507 else ""
    return f"HTTP {response.status_code}{f', {reason}' if reason else ''}{hint}"
