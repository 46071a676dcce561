"""The chat: whether it answers, what it says of its parts, where the time goes, and who waits for a connection."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from console.doctor.kinds import Finding, Kind, Unwell
from console.doctor.site import Site

_SECONDS = 10.0

WELL = Kind(
    "chat.well", "ok",
    ("The chat at {address} answers from release {release}; it is {status}", "对话服务 {address} 使用发布版 {release} 作答，状态 {status}"),
)  # fmt: skip
LATENCY = Kind(
    "chat.latency", "ok",
    ("{stage}: {mean} ms on average, {p95} ms or less for 95 % ({count} since the chat started)",
     "{stage_zh}：平均 {mean} 毫秒，95 % 不超过 {p95} 毫秒（启动以来 {count} 次）"),
)  # fmt: skip
DOWN = Kind(
    "chat.down", "error",
    ("The chat at {address} does not answer: {reason}.", "对话服务 {address} 没有应答：{reason}。"),
    ("`{start}`; its log is serving.log, or app.log in LOG_DIR.", "`{start}`；日志为 serving.log，或 LOG_DIR 中的 app.log。"),
)  # fmt: skip
NOT_CHAT = Kind(
    "chat.port_taken", "error",
    ("SERVING_PORT: another program answers at {address}, and not the chat.", "SERVING_PORT：{address} 上应答的是其他程序，不是对话服务。"),
    ("Stop that program (`ss -ltnp` says which), or set SERVING_PORT.", "停止该程序（`ss -ltnp` 可查），或设置 SERVING_PORT。"),
)  # fmt: skip
PART = Kind(
    "chat.part", "warning",
    ("The chat itself finds its {part} {state}: {reason}.", "对话服务自身报告 {part} 为 {state}：{reason}。"),
    ("If doctor reaches it and the chat does not, the chat has other settings: restart it: `{start}`.",
     "若 doctor 能连接而对话服务不能，说明它的设置不同：重启 `{start}`。"),
)  # fmt: skip
FENCED = Kind(
    "chat.fenced", "warning",
    ("The chat is fenced and answers 503: {reason}.", "写入已被恢复操作暂时封锁，对话返回 503：{reason}。"),
    ("It lasts as long as the restore's swap, and goes by itself within a minute of the restore's end.",
     "恢复切换期间如此；恢复结束后一分钟内自动解除。"),
)  # fmt: skip
DEGRADED = Kind(
    "chat.degradation", "note",
    ("The chat is at degradation level {level}, because of load or because an operator said so.", "对话服务处于降级级别 {level}（负载或人工设置）。"),
)  # fmt: skip
SLOW = Kind(
    "chat.slow_stage", "warning",
    ("{stage} takes {p95} ms or more for one question in twenty, {mean} ms on average; {limit} ms is usual at most.",
     "{stage_zh} 每二十个问题就有一个耗时 {p95} 毫秒以上，平均 {mean} 毫秒；通常不超过 {limit} 毫秒。"),
    ("{look}", "{look_zh}"),
)  # fmt: skip
POOL = Kind(
    "chat.pool_waits", "warning",
    ("{waiting} requests wait for a PostgreSQL connection; all {size} of the chat's are in use.",
     "有 {waiting} 个请求在等待 PostgreSQL 连接；对话服务的 {size} 个连接都在使用。"),
    ("See which statements hold them (area `database`); raise DATABASE_POOL_MAX while PostgreSQL has room.",
     "查看是哪些语句占用（`database` 部分）；PostgreSQL 有余量时提高 DATABASE_POOL_MAX。"),
)  # fmt: skip
DROPPED = Kind(
    "chat.messages_dropped", "warning",
    ("{count} messages were answered but could not be stored, since the chat started.", "启动以来有 {count} 条消息已回答但未能保存。"),
    ("PostgreSQL was away too long, or is too slow: see the area `database`.", "PostgreSQL 中断过久或过慢：见 `database` 部分。"),
)  # fmt: skip
FAILING = Kind(
    "chat.failing_requests", "warning",
    ("{share} % of the chat's requests ended with an error of the server ({count} of {all} since it started).",
     "{share} % 的请求以服务器错误结束（启动以来 {count}/{all}）。"),
    ("`tail -20 error.log` in LOG_DIR says why.", "在 LOG_DIR 中 `tail -20 error.log` 查看原因。"),
)  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """A part of the way to an answer. `limit`: ms for 95 % that are usual at most."""

    metric: str
    names: tuple[str, str]
    limit: float
    look: tuple[str, str]


_STAGES = (
    Stage("message_processing_time", ("A whole answer", "完整回答"), 30_000,
          ("See which of the stages below takes it.", "看下面哪个阶段耗时。")),
    Stage("embedding_request_duration", ("Embedding a question", "计算问题向量"), 500,
          ("Look at the machine's load (area `machine`), or take a smaller model: EMBEDDING_MODEL=corpus.",
           "检查本机负载（`machine` 部分），或换更小的模型：EMBEDDING_MODEL=corpus。")),
    Stage("search_request_duration", ("A search in the vector store", "向量检索"), 500,
          ("See the area `vectors`: its memory, its payload indexes, an optimisation under way.",
           "见 `vectors` 部分：内存、载荷索引、是否正在优化。")),
    Stage("llm_request_duration", ("A call of the language model", "语言模型调用"), 20_000,
          ("See the area `llm`; a smaller model (LLM_MODEL), or shorter answers (LLM_MAX_TOKENS).",
           "见 `llm` 部分；换更小的模型（LLM_MODEL）或更短的回答（LLM_MAX_TOKENS）。")),
)  # fmt: skip
_ENOUGH = 20  # observations from which a percentile means something
_OF = {"database": "database", "redis": "redis", "qdrant": "vectors", "llm": "llm"}
"""The area that looks at a part of the chat itself."""


def check(site: Site) -> Iterator[Finding]:
    """Everything that the chat tells."""
    address, start = site.chat(), "zhiyun down; zhiyun up" if site.embedded else "python -m serving"
    with httpx.Client(base_url=address, timeout=_SECONDS, trust_env=False) as client:
        try:
            live = client.get("/api/health/live")
            report: dict[str, Any] = client.get("/api/health").json() if live.is_success else {}
            metrics = client.get("/api/metrics").text if live.is_success else ""
        except httpx.TransportError as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise Unwell(DOWN(address=address, reason=reason, start=start)) from None
        except ValueError:
            raise Unwell(NOT_CHAT(address=address)) from None
    if "components" not in report:
        raise Unwell(NOT_CHAT(address=address))
    details: Mapping[str, Any] = report.get("details", {})
    for part, state in report["components"].items():
        if state in ("degraded", "unhealthy"):
            yield PART(part=part, state=state, reason=details.get(part, {}).get("reason") or "no reason", start=start)
    if "fence" in details:
        yield FENCED(reason=details["fence"].get("reason", ""))
    if report.get("degradation_level"):
        yield DEGRADED(level=report["degradation_level"])
    yield WELL(address=address, release=report.get("release") or "-", status=report["status"])
    yield from _figures(metrics)


def area_of(finding: Finding) -> str:
    """The area that looks at the same part as this finding of the chat; empty for others."""
    return _OF.get(finding.values.get("part", ""), "") if finding.kind is PART else ""


def _figures(text: str) -> Iterator[Finding]:
    samples: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))

    def total(name: str) -> float:
        return sum(value for _, value in samples.get(name, ()))

    for stage in _STAGES:
        count = total(f"{stage.metric}_count")
        if not count:
            continue
        mean = 1000 * total(f"{stage.metric}_sum") / count
        p95 = 1000 * _quantile(samples.get(f"{stage.metric}_bucket", []), 0.95)
        told = {
            "stage": stage.names[0], "stage_zh": stage.names[1], "mean": f"{mean:.1f}", "p95": f"{p95:.0f}",
            "count": int(count), "limit": f"{stage.limit:.0f}", "look": stage.look[0], "look_zh": stage.look[1],
        }  # fmt: skip
        yield (SLOW if count >= _ENOUGH and p95 > stage.limit else LATENCY)(**told)
    if waiting := total("database_pool_waiting"):
        yield POOL(waiting=int(waiting), size=int(total("database_pool_size")))
    if dropped := total("stored_messages_dropped_total"):
        yield DROPPED(count=int(dropped))
    requests = samples.get("http_requests_total", [])
    failed = sum(value for labels, value in requests if labels["status"].startswith("5") and labels["status"] != "503")
    everything = sum(value for _, value in requests)
    if failed >= 5 and failed > 0.01 * everything:
        yield FAILING(share=f"{100 * failed / everything:.1f}", count=int(failed), all=int(everything))


def _quantile(buckets: list[tuple[dict[str, str], float]], share: float) -> float:
    """Interpolated within its bucket, as Prometheus does it; the last limit where it is beyond all."""
    counts: dict[float, float] = {}
    for labels, value in buckets:
        limit = float(labels["le"])
        counts[limit] = counts.get(limit, 0.0) + value
    limits = sorted(counts)
    if not limits or not counts[limits[-1]]:
        return 0.0
    wanted, below, before = share * counts[limits[-1]], 0.0, 0.0
    for limit in limits:
        if counts[limit] >= wanted:
            if limit == float("inf"):
                return below
            width = counts[limit] - before
            return below + (limit - below) * ((wanted - before) / width if width else 1.0)
        below, before = limit, counts[limit]
    return below
