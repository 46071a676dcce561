"""The language model: reached, let in, and really asked for one word."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx

from zhiyun.doctor import network
from zhiyun.doctor.kinds import Finding, Kind, Unwell
from zhiyun.doctor.site import Site
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
LIMITED = Kind(
    "llm.limited", "error",
    ("{where} takes no more requests now (HTTP 429): the quota or the rate is used up. Answers are quoted meanwhile.",
     "{where} 暂不接受请求（HTTP 429）：配额或频率已用尽。期间改为引用文档作答。"),
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
    """Everything about LLM_BASE_URL; asks for one token."""
    settings = load(LlmSettings)
    if not settings.base_url:
        yield OFF()
        return
    address = network.Address.of(settings.base_url, "LLM_BASE_URL", "LLM", 80)
    yield from network.walk(address, "curl -sS LLM_BASE_URL/models")
    limit = settings.first_token_timeout
    headers = {"authorization": f"Bearer {settings.api_key}"} if settings.api_key else {}
    where, base = address.where, settings.base_url.rstrip("/")
    try:
        with httpx.Client(headers=headers, timeout=httpx.Timeout(limit, connect=settings.connect_timeout)) as client:
            _listed(client.get(f"{base}/models"), settings, where)
            began = time.monotonic()
            answer = client.post(
                f"{base}/chat/completions",
                json={
                    "model": settings.model, "max_tokens": 1, "stream": False,
                    "messages": [{"role": "user", "content": "1"}],
                },
            )  # fmt: skip
            seconds = time.monotonic() - began
    except httpx.TransportError as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Unwell(SILENT(where=where, seconds=f"{limit:g}", reason=reason)) from None
    _refused(answer, settings, where)
    try:
        if "event-stream" not in answer.headers.get("content-type", ""):  # some stream whatever they are asked for
            _first_choice(answer.json())
    except (ValueError, KeyError, IndexError, TypeError):
        raise Unwell(NOT_LLM(where=where, reason="its answer has no `choices`")) from None
    told = {"model": settings.model, "where": where, "seconds": f"{seconds:.1f}"}
    if seconds > _SLOW_SHARE * limit:
        yield SLOW(**told, limit=f"{limit:g}")
    else:
        yield WELL(**told)


def _listed(answer: httpx.Response, settings: LlmSettings, where: str) -> None:
    """Look for the model in the server's list; a server without a list is taken as it is."""
    if answer.status_code in (401, 403, 429) or answer.status_code >= 500:
        _refused(answer, settings, where)
    try:
        known: list[str] = [entry["id"] for entry in answer.json()["data"]]
    except (ValueError, KeyError, TypeError):
        return
    if known and settings.model not in known and f"{settings.model}:latest" not in known:
        raise Unwell(NO_MODEL(model=settings.model, where=where, known=", ".join(known[:8])))


def _refused(answer: httpx.Response, settings: LlmSettings, where: str) -> None:
    status = answer.status_code
    if answer.is_success:
        return
    if status in (401, 403):
        raise Unwell(KEY(where=where, status=status))
    if status == 429:
        raise Unwell(LIMITED(where=where))
    if status == 404:
        raise Unwell(
            NOT_LLM(
                where=where, reason=f"HTTP 404 for {answer.request.url.path}; or LLM_MODEL={settings.model} is unknown"
            )
        )
    raise Unwell(FAILS(where=where, status=status, reason=_said(answer)))


def _first_choice(told: Any) -> Any:
    return told["choices"][0]


def _said(answer: httpx.Response) -> str:
    try:
        told: Any = answer.json()
        return str(told["error"]["message"])[:200]
    except (ValueError, KeyError, TypeError):
        return " ".join(answer.text.split())[:200] or "no reason"
