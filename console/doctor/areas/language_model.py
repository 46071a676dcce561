"""The language model: reached, let in, and really asked for one word."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import httpx

from console.doctor.areas import network
from console.doctor.kinds import PASTED, Finding, Kind, Unwell
from console.doctor.site import Site
from zhiyun.settings import LlmSettings, load

_SLOW_SHARE = 0.5  # of LLM_FIRST_TOKEN_TIMEOUT

WELL = Kind(
    "llm.well", "ok",
    ("{model} at {where} answers one word in {seconds} s", "{where} 的 {model} 回答一个词用时 {seconds} 秒"),
)  # fmt: skip
OFF = Kind(
    "llm.not_set", "ok",
    ("LLM_BASE_URL is not set: answers are quoted from the documents, on purpose",
     "未设置 LLM_BASE_URL：按设计直接引用文档作答"),
)  # fmt: skip
KEY = Kind(
    "llm.api_key", "error",
    ("LLM_API_KEY: {where} refuses the key (HTTP {status}). Answers are quoted from the documents meanwhile.",
     "LLM_API_KEY：{where} 拒绝该密钥（HTTP {status}）。期间改为引用文档作答。"),
    ("Set LLM_API_KEY to a key that is valid there, and restart the chat: `zhiyun down; zhiyun up`.",
     "把 LLM_API_KEY 换成有效的密钥，并重启对话服务：`zhiyun down; zhiyun up`。"),
)  # fmt: skip
FORBIDDEN = Kind(
    "llm.forbidden",
    "error",
    (
        "{where} does not let this key or this place in (HTTP 403): {reason}. Answers are quoted from the documents meanwhile.",
        "{where} 拒绝该密钥或所在地区的访问（HTTP 403）：{reason}。期间改为引用文档作答。",
    ),
    (
        "See what the provider allows the key, its models and this region; or set LLM_BASE_URL to another endpoint.",
        "确认提供商对该密钥、模型和地区的授权；或把 LLM_BASE_URL 换成其他地址。",
    ),
)
LIMITED = Kind(
    "llm.limited", "error",
    ("{where} takes no more requests now (HTTP 429): the quota or the rate is used up ({reason}). Answers are quoted meanwhile.",
     "{where} 暂不接受请求（HTTP 429）：配额或频率已用尽（{reason}）。期间改为引用文档作答。"),
    ("Ask the provider for more; the chat takes it up again by itself.", "联系提供商提高配额；恢复后对话服务会自动继续使用。"),
)  # fmt: skip
FAILS = Kind(
    "llm.fails", "error",
    ("{where} answers HTTP {status}: {reason}. Answers are quoted from the documents meanwhile.",
     "{where} 返回 HTTP {status}：{reason}。期间改为引用文档作答。"),
    ("See the provider's status page, or that server's log; the chat takes it up again by itself.",
     "查看提供商状态页或该服务器日志；恢复后对话服务会自动继续使用。"),
)  # fmt: skip
NO_MODEL = Kind(
    "llm.no_such_model", "error",
    ("LLM_MODEL={model}: {where} has no model of that name; it has {known}.", "LLM_MODEL={model}：{where} 没有该模型；可用：{known}。"),
    ("Set LLM_MODEL to one of them, and restart the chat: `zhiyun down; zhiyun up`.",
     "把 LLM_MODEL 改为其中之一，并重启对话服务：`zhiyun down; zhiyun up`。"),
)  # fmt: skip
SILENT = Kind(
    "llm.no_answer", "error",
    ("{where} is reached, but gives no answer within {seconds} s (LLM_FIRST_TOKEN_TIMEOUT): {reason}. Answers are quoted "
     "meanwhile.",
     "{where} 可连接，但 {seconds} 秒内没有回答（LLM_FIRST_TOKEN_TIMEOUT）：{reason}。期间改为引用文档作答。"),
    ("See that server's load and log; a model that is just being loaded needs a while: raise LLM_FIRST_TOKEN_TIMEOUT.",
     "查看该服务器的负载与日志；模型加载需要时间：可调高 LLM_FIRST_TOKEN_TIMEOUT。"),
)  # fmt: skip
NOT_LLM = Kind(
    "llm.not_openai", "error",
    ("LLM_BASE_URL: {where} does not speak the OpenAI protocol: {reason}.", "LLM_BASE_URL：{where} 不支持 OpenAI 协议：{reason}。"),
    ("LLM_BASE_URL usually ends in /v1: `curl LLM_BASE_URL/models`.", "LLM_BASE_URL 通常以 /v1 结尾：`curl LLM_BASE_URL/models`。"),
)  # fmt: skip
SLOW = Kind(
    "llm.slow", "warning",
    ("{model} at {where} takes {seconds} s for one word, and is given up after {limit} s (LLM_FIRST_TOKEN_TIMEOUT).",
     "{where} 的 {model} 回答一个词需 {seconds} 秒，超过 {limit} 秒（LLM_FIRST_TOKEN_TIMEOUT）即放弃。"),
    ("Take a smaller model (LLM_MODEL), or a server with more room; without LLM_BASE_URL answers are quoted at once.",
     "换更小的模型（LLM_MODEL）或更强的服务器；不设 LLM_BASE_URL 则立即引用文档作答。"),
)  # fmt: skip


def check(_: Site) -> Iterator[Finding]:
    """Everything about LLM_BASE_URL. Asks for one token, in a stream as the chat does."""
    settings = load(LlmSettings)
    if not settings.base_url:
        yield OFF()
        return
    if not settings.api_key.isascii() or settings.api_key != "".join(settings.api_key.split()):
        raise Unwell(PASTED(setting="LLM_API_KEY"))
    address = network.Address.of(settings.base_url, "LLM_BASE_URL", "the language model's server")
    way = _proxy(settings.base_url, address.host) or address
    yield from network.walk(way, f"curl -sS {settings.base_url.rstrip('/')}/models")
    limit, where = settings.first_token_timeout, address.where
    headers = {"authorization": f"Bearer {settings.api_key}"} if settings.api_key else {}
    try:
        with httpx.Client(
            base_url=settings.base_url.rstrip("/"),
            headers=headers,
            timeout=httpx.Timeout(limit, connect=settings.connect_timeout),
        ) as client:
            seconds = _first_word(client, settings, where)
    except httpx.TransportError as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Unwell(SILENT(where=where, seconds=f"{limit:g}", reason=reason)) from None
    told = {"model": settings.model, "where": where, "seconds": f"{seconds:.1f}"}
    if seconds > _SLOW_SHARE * limit:
        yield SLOW(**told, limit=f"{limit:g}")
    else:
        yield WELL(**told)


def _proxy(url: str, host: str) -> network.Address | None:
    """The proxy that the environment names for this URL, and that the chat goes through too."""
    scheme = url.partition(":")[0]
    proxies = urllib.request.getproxies()
    proxy = proxies.get(scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(host):
        return None
    return network.Address.of(proxy, f"{scheme.upper()}_PROXY", "the proxy", 80)


def _first_word(client: httpx.Client, settings: LlmSettings, where: str) -> float:
    """Seconds until the answer's first word. Raises Unwell, and what httpx raises."""
    asked = {
        "model": settings.model, "max_tokens": 1, "stream": True, "messages": [{"role": "user", "content": "1"}],
    }  # fmt: skip
    began = time.monotonic()
    limit = settings.first_token_timeout
    with client.stream("POST", "/chat/completions", json=asked) as answer:
        if not answer.is_success:
            answer.read()
            if answer.status_code in (400, 404):
                _known(client, settings, where)
            raise Unwell(_refusal(answer, settings, where))
        if "event-stream" not in answer.headers.get("content-type", ""):
            answer.read()
            if not _has_choices(answer.text):
                raise Unwell(NOT_LLM(where=where, reason="its answer has no `choices`"))
            return time.monotonic() - began
        for line in answer.iter_lines():
            if _is_word(line):
                break
            if time.monotonic() - began > limit:
                raise httpx.ReadTimeout("it streams, but no word comes")
    return time.monotonic() - began


def _known(client: httpx.Client, settings: LlmSettings, where: str) -> None:
    """Raise Unwell if the server has a list of models without this one."""
    try:
        listed: list[dict[str, Any]] = client.get("/models").json()["data"]
        known = [str(entry["id"]) for entry in listed]
    except (ValueError, KeyError, TypeError):
        return
    if known and not any(
        name.removeprefix("models/") in (settings.model, f"{settings.model}:latest") for name in known
    ):
        raise Unwell(NO_MODEL(model=settings.model, where=where, known=", ".join(known[:8])))


def _refusal(answer: httpx.Response, settings: LlmSettings, where: str) -> Finding:
    status, said = answer.status_code, _said(answer)
    if status == 401:
        return KEY(where=where, status=status)
    if status == 403:
        return FORBIDDEN(where=where, reason=said)
    if status == 429:
        return LIMITED(where=where, reason=said)
    if status == 404:
        reason = f"HTTP 404 for {answer.request.url.path}; or LLM_MODEL={settings.model} is unknown"
        return NOT_LLM(where=where, reason=reason)
    return FAILS(where=where, status=status, reason=said)


def _has_choices(text: str) -> bool:
    try:
        told: Any = json.loads(text)
        return bool(told["choices"])
    except (ValueError, KeyError, TypeError):
        return False


def _is_word(line: str) -> bool:
    """Whether a line of the stream has a word of the answer, or ends it."""
    if not line.startswith("data:"):
        return False
    text = line.removeprefix("data:").strip()
    if text == "[DONE]":
        return True
    try:
        choice: Any = json.loads(text)["choices"][0]
        delta: Any = choice.get("delta") or {}
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return False
    # Models that think first stream their thoughts under a name of their own.
    return bool(delta.get("content") or delta.get("reasoning_content") or choice.get("finish_reason"))


def _said(answer: httpx.Response) -> str:
    try:
        told: Any = answer.json()
        return str(told["error"]["message"])[:200]
    except (ValueError, KeyError, TypeError):
        return " ".join(answer.text.split())[:200] or "no reason"
