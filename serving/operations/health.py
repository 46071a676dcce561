"""Health in the manual's shape (section 1.1): each component is really probed, within 2 seconds.

The chat cannot answer without the vector store, so without it the service is `unhealthy` (503). Without
one of the others it answers with less, and is `degraded` (200). A language model that is not configured
is `disabled`, which takes nothing from `healthy`: answers are then extractive on purpose.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeAlias

import httpx
import msgspec
from litestar import Controller, Response, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from msgspec import Meta, Struct
from qdrant_client import AsyncQdrantClient
from qdrant_client.http.exceptions import UnexpectedResponse
from redis.asyncio import Redis

from serving.configuration import Configuration
from serving.database import Database
from serving.operations.fence import FenceWatch
from zhiyun.logs import without_secrets
from zhiyun.settings import LlmSettings

State: TypeAlias = Literal["healthy", "degraded", "unhealthy", "disabled"]

_LIMIT = 2.0  # seconds for each probe
_CACHED = 1.0  # seconds that a report is given again


class Detail(Struct, frozen=True, omit_defaults=True):
    """How a component answered."""

    latency_ms: float | None = None
    reason: str | None = None
    release: int | None = None
    collection: str | None = None
    model: str | None = None


class Report(Struct, frozen=True):
    """The manual's health report, with the reasons beside it."""

    status: Literal["healthy", "degraded", "unhealthy"]
    components: dict[str, State]
    timestamp: Annotated[str, Meta(description="UTC.")]
    details: dict[str, Detail]
    release: int | None
    degradation_level: int
    version: str


class _Found(Exception):
    """A probe that has more to say than that all is well."""

    state: State

    def __init__(self, state: State, detail: Detail) -> None:
        super().__init__(state)
        self.state = state
        self.detail = detail


class Health:
    """Probes the components, and keeps the report for a second."""

    def __init__(
        self,
        configuration: Configuration,
        database: Database,
        redis: Redis,
        qdrant: AsyncQdrantClient,
        http: httpx.AsyncClient,
        fence: FenceWatch,
    ) -> None:
        self._database = database
        self._redis = redis
        self._qdrant = qdrant
        self._http = http
        self._fence = fence
        self._collection = configuration.qdrant.collection
        self._llm = configuration.llm
        self._report: Report | None = None
        self._until = float("-inf")
        self._lock = asyncio.Lock()

    async def report(self) -> Report:
        """The state of the service and of each component."""
        async with self._lock:
            if self._report is None or time.monotonic() > self._until:
                self._report = await self._probe_all()
                self._until = time.monotonic() + _CACHED
            return self._report

    async def _probe_all(self) -> Report:
        probes: dict[str, Callable[[], Awaitable[Detail]]] = {
            "database": self._probe_database,
            "redis": self._probe_redis,
            "qdrant": self._probe_qdrant,
            "llm": self._probe_llm,
        }
        found = await asyncio.gather(*(_probed(probe) for probe in probes.values()))
        components: dict[str, State] = {name: state for name, (state, _) in zip(probes, found, strict=True)}
        details = {name: detail for name, (_, detail) in zip(probes, found, strict=True)}
        status: Literal["healthy", "degraded", "unhealthy"] = "healthy"
        if components["qdrant"] == "unhealthy":
            status = "unhealthy"
        elif any(state in ("degraded", "unhealthy") for state in components.values()):
            status = "degraded"
        if self._fence.up is not None:
            details["fence"] = Detail(reason=f"the chat is fenced: {self._fence.up.reason}")
            status = "unhealthy" if status == "unhealthy" else "degraded"
        return Report(
            status=status,
            components=components,
            timestamp=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            details=details,
            release=details["qdrant"].release,
            degradation_level=0,
            version=version(),
        )

    async def _probe_database(self) -> Detail:
        await self._database.probe(_LIMIT)
        return Detail()

    async def _probe_redis(self) -> Detail:
        await self._redis.ping()
        return Detail()

    async def _probe_qdrant(self) -> Detail:
        try:
            information = await self._qdrant.get_collection(self._collection)
        except UnexpectedResponse as error:
            if error.status_code == 404:
                raise _Found("degraded", Detail(reason="nothing is published yet")) from None
            raise
        metadata = information.config.metadata or {}
        if "live_release" not in metadata:
            raise _Found("degraded", Detail(reason="nothing is published yet"))
        return Detail(release=int(metadata["live_release"]), collection=str(metadata.get("collection", "")))

    async def _probe_llm(self) -> Detail:
        settings = self._llm
        if not settings.base_url:
            raise _Found("disabled", Detail(reason="LLM_BASE_URL is not set; answers are quoted from the documents"))
        response = await self._http.get(
            settings.base_url.rstrip("/") + "/models",
            headers={"authorization": f"Bearer {settings.api_key}"} if settings.api_key else {},
            timeout=_LIMIT,
        )
        return _judged(response, settings)


async def _probed(probe: Callable[[], Awaitable[Detail]]) -> tuple[State, Detail]:
    started = time.monotonic()

    def after(detail: Detail) -> Detail:
        return msgspec.structs.replace(detail, latency_ms=round((time.monotonic() - started) * 1000, 1))

    try:
        async with asyncio.timeout(_LIMIT):
            return "healthy", after(await probe())
    except _Found as found:
        return found.state, found.detail if found.state == "disabled" else after(found.detail)
    except TimeoutError:
        return "unhealthy", after(Detail(reason=f"no answer within {_LIMIT:g} seconds"))
    except Exception as error:
        lines = str(error).strip().splitlines()
        reason = lines[0][:300] if lines else type(error).__name__
        return "unhealthy", after(Detail(reason=without_secrets(reason)))


def _judged(response: httpx.Response, settings: LlmSettings) -> Detail:
    """What the endpoint's list of models says. Servers without such a list are taken as they are."""
    model = settings.model
    if response.status_code in (401, 403):
        reason = f"the endpoint refused LLM_API_KEY (HTTP {response.status_code})"
        raise _Found("unhealthy", Detail(reason=reason, model=model))
    if response.status_code >= 500 or response.status_code == 429:
        raise _Found("unhealthy", Detail(reason=f"the endpoint answers HTTP {response.status_code}", model=model))
    try:
        listed: Any = [entry["id"] for entry in response.json()["data"]]
    except (ValueError, KeyError, TypeError):
        return Detail(model=model)
    if listed and model not in listed and f"{model}:latest" not in listed:
        raise _Found("degraded", Detail(reason=f"the endpoint does not list LLM_MODEL={model}", model=model))
    return Detail(model=model)


def version() -> str:
    """The version of the installed package."""
    try:
        return importlib.metadata.version("zhiyun")
    except importlib.metadata.PackageNotFoundError:
        return "0.1.0"


class HealthController(Controller):
    path = "/api/health"
    tags = ("operations",)

    @get(
        summary="Health of the service and its components",
        responses={503: ResponseSpec(data_container=Report, description="The chat cannot answer.")},
    )
    async def health(self, health: NamedDependency[Health]) -> Response[Report]:
        """Components are `healthy`, `degraded`, `unhealthy`, or `disabled`: a language model that is not set.
        200 when the service is `healthy` or `degraded`, 503 when it is `unhealthy`."""
        report = await health.report()
        return Response(
            report,
            status_code=503 if report.status == "unhealthy" else 200,
            headers={"cache-control": "no-store"},
        )

    @get("/live", summary="Liveness")
    async def live(self) -> dict[str, str]:
        """200 while the process answers at all: restart it when it does not."""
        return {"status": "alive"}

    @get("/ready", summary="Readiness")
    async def ready(self, health: NamedDependency[Health]) -> Response[dict[str, str]]:
        """200 when questions can be answered, that is when a release is published and can be searched."""
        report = await health.report()
        fence = report.details.get("fence")
        if report.release is not None and fence is None:
            return Response({"status": "ready"})
        reason = (fence or report.details["qdrant"]).reason or "the vector store does not answer"
        return Response({"status": "not ready", "reason": reason}, status_code=503, headers={"retry-after": "5"})
