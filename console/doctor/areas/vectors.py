"""The vector store: reached, let in, searched; and whether its live collection is the one that the chat expects."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import psycopg
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException

from console.doctor.areas import network
from console.doctor.areas.postgresql import impatient
from console.doctor.kinds import PASTED, Finding, Kind, Unwell
from console.doctor.site import Site
from knowledge.database import DatabaseUnavailable, connect
from knowledge.models import registry, retrieval_model
from knowledge.models.embedding import EmbeddingModelUnavailable
from knowledge.releases import lifecycle
from knowledge.releases.collection import PAYLOAD_INDEXES, release_filter
from knowledge.releases.vector_store import DENSE
from zhiyun.settings import EmbeddingSettings, QdrantSettings, load

_SLOW_MS = 200.0
_SLOW_EMBEDDING_MS = 500.0
_QUESTION = "你好，请问怎么联系人工客服？"

WELL = Kind(
    "vectors.well", "ok",
    ("Qdrant {version} at {where}: release {release} with {points} passages in {collection}, a search takes {ms} ms",
     "Qdrant {version}（{where}）：发布版 {release}，{collection} 中有 {points} 个段落，检索耗时 {ms} 毫秒"),
)  # fmt: skip
EMBEDS = Kind(
    "vectors.embeds", "ok",
    ("The model {fingerprint} ({model}) embeds a question in {ms} ms", "模型 {fingerprint}（{model}）计算一个问题的向量需 {ms} 毫秒"),
)  # fmt: skip
KEY = Kind(
    "vectors.api_key", "error",
    ("QDRANT_API_KEY: the vector store at {where} refuses the key (HTTP {status}).",
     "QDRANT_API_KEY：{where} 的向量库拒绝该密钥（HTTP {status}）。"),
    ("Set QDRANT_API_KEY to the key of the server (its QDRANT__SERVICE__API_KEY).",
     "把 QDRANT_API_KEY 设为服务器的密钥（其 QDRANT__SERVICE__API_KEY）。"),
)  # fmt: skip
NOT_QDRANT = Kind(
    "vectors.no_answer", "error",
    ("QDRANT_URL: {where} is reached, but does not answer as Qdrant: {reason}.", "QDRANT_URL：{where} 可连接，但未按 Qdrant 协议应答：{reason}。"),
    ("See which program has that port: `ss -ltnp 'sport = :{port}'`; start the vector store: `{start}`.",
     "查看占用该端口的程序：`ss -ltnp 'sport = :{port}'`；启动向量库：`{start}`。"),
)  # fmt: skip
NOTHING = Kind(
    "vectors.nothing_published", "error",
    ("Nothing is published: the vector store has no alias {alias}, so every question is answered with \"I don't know\".",
     "尚未发布任何内容：向量库没有别名 {alias}，所有问题都只能回答“不知道”。"),
    ("`zhiyun ingest`; or bring it back: `zhiyun restore latest --only vectors`.",
     "`zhiyun ingest`；或恢复：`zhiyun restore latest --only vectors`。"),
)  # fmt: skip
EMPTY = Kind(
    "vectors.empty", "error",
    ("Release {release} in {collection} has no passages.", "发布版 {release}（{collection}）没有任何段落。"),
    ("See KNOWLEDGE_SOURCES, then `zhiyun ingest`; or `zhiyun restore latest --only vectors`.",
     "检查 KNOWLEDGE_SOURCES，然后 `zhiyun ingest`；或 `zhiyun restore latest --only vectors`。"),
)  # fmt: skip
DIFFERS = Kind(
    "vectors.release_differs", "warning",
    ("The vector store answers from release {vectors}, and the record in PostgreSQL says {record}.",
     "向量库使用发布版 {vectors}，而 PostgreSQL 记录为 {record}。"),
    ("`zhiyun ingest` brings the two together.", "`zhiyun ingest` 会使二者一致。"),
)  # fmt: skip
STATUS = Kind(
    "vectors.collection_status", "error",
    ("Collection {collection} is {status}: {reason}.", "集合 {collection} 状态为 {status}：{reason}。"),
    ("See the vector store's log; if it does not mend itself: `zhiyun restore latest --only vectors`.",
     "查看向量库日志；若不能自行恢复：`zhiyun restore latest --only vectors`。"),
)  # fmt: skip
OPTIMIZING = Kind(
    "vectors.optimizing", "note",
    ("Collection {collection} is being optimised; searches may be slower meanwhile.", "集合 {collection} 正在优化，期间检索可能变慢。"),
)  # fmt: skip
NO_INDEX = Kind(
    "vectors.payload_index_missing", "warning",
    ("Collection {collection} has no payload index on {fields}, so each search reads every point.",
     "集合 {collection} 缺少 {fields} 的载荷索引，每次检索都要扫描全部点。"),
    ("Run the job of the asset collection_maintenance in the Dagster UI: it makes them.",
     "在 Dagster 界面运行 collection_maintenance，它会补建索引。"),
)  # fmt: skip
SLOW = Kind(
    "vectors.slow", "warning",
    ("A search in {collection} takes {ms} ms.", "在 {collection} 中检索一次需 {ms} 毫秒。"),
    ("Look at its memory and disk, and at collection_maintenance in the Dagster UI.",
     "检查其内存与磁盘，以及 Dagster 界面的 collection_maintenance。"),
)  # fmt: skip
SEARCH = Kind(
    "vectors.search_failed", "error",
    ("A search in {collection} fails: {reason}.", "在 {collection} 中检索失败：{reason}。"),
    ("See the vector store's log; `zhiyun restore latest --only vectors` brings the last good collection back.",
     "查看向量库日志；`zhiyun restore latest --only vectors` 可恢复最近一次完好的集合。"),
)  # fmt: skip
NO_MODEL = Kind(
    "vectors.model_missing", "error",
    ("The model {fingerprint} that made the live collection cannot be loaded: {reason}",
     "生成线上集合的模型 {fingerprint} 无法加载：{reason}"),
    ("Make another: `zhiyun ingest`. Or bring the record back, which gives up conversations since the point: "
     "`zhiyun restore latest --only database`.",
     "重新生成：`zhiyun ingest`。或恢复记录（恢复点之后的会话会丢失）：`zhiyun restore latest --only database`。"),
)  # fmt: skip
DIMENSIONS = Kind(
    "vectors.dimensions", "error",
    ("Collection {collection} has vectors of {vectors} dimensions, and its model {fingerprint} makes {model}: no question can "
     "be searched.",
     "集合 {collection} 的向量为 {vectors} 维，而模型 {fingerprint} 生成 {model} 维：无法检索。"),
    ("`zhiyun ingest` fills a collection that fits; until then `zhiyun restore latest --only vectors`.",
     "`zhiyun ingest` 会建立匹配的集合；在此之前可 `zhiyun restore latest --only vectors`。"),
)  # fmt: skip
OTHER_MODEL = Kind(
    "vectors.other_model", "warning",
    ("EMBEDDING_MODEL={wanted}, and the live collection was made with {used}: the next ingestion makes a new one.",
     "EMBEDDING_MODEL={wanted}，而线上集合使用 {used} 生成：下次入库会建立新集合。"),
    ("`zhiyun ingest` now, or set EMBEDDING_MODEL back.", "立即 `zhiyun ingest`，或改回 EMBEDDING_MODEL。"),
)  # fmt: skip
SLOW_MODEL = Kind(
    "vectors.slow_embedding", "warning",
    ("Embedding a question takes {ms} ms with the model {fingerprint}.", "模型 {fingerprint} 计算一个问题的向量需 {ms} 毫秒。"),
    ("Look at the machine's load; or take a smaller model: EMBEDDING_MODEL=corpus.", "检查本机负载；或换用更小的模型：EMBEDDING_MODEL=corpus。"),
)  # fmt: skip


def check(site: Site) -> Iterator[Finding]:
    """Everything about QDRANT_URL and the collection behind QDRANT_COLLECTION."""
    settings = load(QdrantSettings)
    start = site.start("Qdrant")
    address = network.Address.of(settings.url, "QDRANT_URL", "Qdrant", 6333)
    yield from network.walk(address, start, site.log("qdrant"))
    version = _let_in(settings, address, start)
    client = QdrantClient(
        url=settings.url, api_key=settings.api_key or None, timeout=settings.timeout, check_compatibility=False
    )
    with closing(client):
        try:
            yield from _collection(client, settings, address.where, version)
        except (ApiException, ResponseHandlingException, httpx.HTTPError) as error:
            raise Unwell(SEARCH(collection=settings.collection, reason=_words(error))) from None


def _let_in(settings: QdrantSettings, address: network.Address, start: str) -> str:
    """The server's version. Raises Unwell."""
    if not settings.api_key.isascii() or settings.api_key != settings.api_key.strip():
        raise Unwell(PASTED(setting="QDRANT_API_KEY"))
    headers = {"api-key": settings.api_key} if settings.api_key else {}
    told = {"where": address.where, "port": address.port, "start": start}
    try:
        with httpx.Client(
            base_url=_base(settings.url), headers=headers, timeout=settings.timeout, trust_env=False
        ) as client:
            version = client.get("/").json()["version"]
            answer = client.get("/collections")
    except httpx.HTTPError as error:
        raise Unwell(NOT_QDRANT(**told, reason=_words(error))) from None
    except (ValueError, KeyError, TypeError):
        raise Unwell(NOT_QDRANT(**told, reason="it tells no version")) from None
    if answer.status_code in (401, 403):
        raise Unwell(KEY(where=address.where, status=answer.status_code))
    if not answer.is_success:
        raise Unwell(NOT_QDRANT(**told, reason=f"HTTP {answer.status_code} for its collections"))
    return str(version)


def _base(url: str) -> str:
    """With the port that the client takes, whatever the scheme."""
    parts = urlsplit(url)
    return url if parts.port else urlunsplit(parts._replace(netloc=f"{parts.netloc}:6333"))


def _collection(client: QdrantClient, settings: QdrantSettings, where: str, version: str) -> Iterator[Finding]:
    alias = settings.collection
    if not client.collection_exists(alias):
        raise Unwell(NOTHING(alias=alias))
    info = client.get_collection(alias)
    metadata: dict[str, Any] = info.config.metadata or {}
    if "live_release" not in metadata:
        raise Unwell(NOTHING(alias=alias))
    collection, release = str(metadata.get("collection", alias)), int(metadata["live_release"])
    if info.status == models.CollectionStatus.RED:
        yield STATUS(collection=collection, status="red", reason=_trouble(info))
    elif info.status == models.CollectionStatus.YELLOW:
        yield OPTIMIZING(collection=collection)
    missing = sorted(set(PAYLOAD_INDEXES) - set(info.payload_schema))
    if missing:
        yield NO_INDEX(collection=collection, fields=", ".join(missing))
    points = client.count(alias, count_filter=release_filter(release), exact=True).count
    if not points:
        raise Unwell(EMPTY(release=release, collection=collection))
    ms = _search(client, alias, release)
    if ms > _SLOW_MS:
        yield SLOW(collection=collection, ms=f"{ms:.0f}")
    yield WELL(version=version, where=where, release=release, points=points, collection=collection, ms=f"{ms:.1f}")
    yield from _record(release)
    yield from _model(info, collection, str(metadata.get("fingerprint", "")))


def _trouble(info: models.CollectionInfo) -> str:
    status = info.optimizer_status
    return str(getattr(status, "error", "") or "it does not say why")


def _search(client: QdrantClient, alias: str, release: int) -> float:
    """Milliseconds of a search for the neighbours of a passage that is there (median of 3)."""
    condition = release_filter(release)
    [point], _ = client.scroll(alias, scroll_filter=condition, limit=1, with_payload=False)
    times: list[float] = []
    for _ in range(3):
        began = time.perf_counter()
        client.query_points(alias, query=point.id, using=DENSE, query_filter=condition, limit=5)
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


def _record(release: int) -> Iterator[Finding]:
    """What PostgreSQL has as live; whether it answers is told elsewhere."""
    with suppress(DatabaseUnavailable, psycopg.Error), connect(impatient(), "zhiyun doctor") as connection:
        recorded = lifecycle.live(connection)
        if recorded and recorded.number != release:
            yield DIFFERS(vectors=release, record=recorded.number)


def _model(info: models.CollectionInfo, collection: str, fingerprint: str) -> Iterator[Finding]:
    folder = registry.models_dir() / fingerprint
    try:
        if not folder.exists():
            with connect(impatient(), "zhiyun doctor") as connection:
                registry.load_model(connection, fingerprint)
        config = retrieval_model.read_config(folder)
    except (DatabaseUnavailable, psycopg.Error):
        return  # the area of the database tells it; the model itself may be well there
    except (OSError, ValueError, EmbeddingModelUnavailable, registry.ModelMissing) as error:
        raise Unwell(NO_MODEL(fingerprint=fingerprint, reason=_words(error))) from None
    used, wanted = str(config["embedding"].get("model", "")), load(EmbeddingSettings).model
    if used != wanted:
        yield OTHER_MODEL(wanted=wanted, used=used)
    size = _dimensions(info)
    # A transformer takes seconds and hundreds of MB to load: what it takes for a question is in the chat's metrics.
    if not retrieval_model.is_static(config):
        return
    try:
        model = retrieval_model.load(folder)
    except EmbeddingModelUnavailable as error:
        raise Unwell(NO_MODEL(fingerprint=fingerprint, reason=_words(error))) from None
    if size and size != model.embedder.dimensions:
        raise Unwell(
            DIMENSIONS(collection=collection, vectors=size, fingerprint=fingerprint, model=model.embedder.dimensions)
        )
    model.embedder.embed_query(_QUESTION)
    began = time.perf_counter()
    model.embedder.embed_query(_QUESTION)
    ms = (time.perf_counter() - began) * 1000
    if ms > _SLOW_EMBEDDING_MS:
        yield SLOW_MODEL(fingerprint=fingerprint, ms=f"{ms:.0f}")
    yield EMBEDS(fingerprint=fingerprint, model=used, ms=f"{ms:.1f}")


def _dimensions(info: models.CollectionInfo) -> int:
    vectors = info.config.params.vectors
    return vectors[DENSE].size if isinstance(vectors, dict) and DENSE in vectors else 0


def _words(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1][:300] if lines else type(error).__name__
