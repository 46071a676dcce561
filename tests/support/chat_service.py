"""The chat as a real process over a really published knowledge base, with wires to its stores that can be cut."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import pytest

from embedded.services import ports
from tests.support.faults.llm_standin import Standin
from tests.support.faults.llm_standin import running as running_standin
from tests.support.faults.tcp_switch import Switch, switch
from tests.support.waiting import until
from zhiyun.repository import REPOSITORY

REFUNDS = """# 退款

## 能不能退

首次购买的套餐，付款后 7 天内可以全额退款。短信包用过以后不退。

## 多久到账

审核通过以后，钱按原路退回：

| 付款方式 | 到账时间 |
|---|---|
| 账户余额 | 立即 |
| 微信支付 | 1–3 个工作日 |
| 国内信用卡 | 5–10 个工作日 |

## 怎么申请

1. 登录控制台。
2. 打开 **费用 → 订单**，点 **申请退款**。
3. 提交后 2 个工作日内审核。
"""
PLANS = """# 套餐与价格

标准版每月 299 元，专业版每月 899 元，企业版请联系销售。

## 标准版包含什么

标准版包含 5 个成员和每月 1000 个订单。
"""
ENGLISH = """# Signing requests

Every API request carries four headers. The signature is an HMAC-SHA256 of the canonical request.

```python
signature = hmac.new(secret, canonical, hashlib.sha256).hexdigest()
```

Clocks may differ by five minutes at most.
"""
HOSTILE = """# 特殊字符

页面标签写成 <script>window.hacked = true</script> 和 <img src=x onerror="window.hacked = true"> 会原样显示。
"""


@dataclass
class Event:
    """A server-sent event."""

    name: str
    data: Any


@dataclass
class Chat:
    """A running chat service."""

    url: str
    folder: Path
    process: subprocess.Popen[bytes]
    environment: dict[str, str]
    wires: dict[str, Switch] = field(default_factory=dict)

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30, **options)

    def ask(self, message: str, conversation_id: str | None = None) -> dict[str, Any]:
        """The whole answer to a message."""
        body = {"message": message} | ({"conversation_id": conversation_id} if conversation_id else {})
        response = httpx.post(f"{self.url}/api/chat", json=body, timeout=60)
        assert response.status_code == 200, response.text
        return response.json()

    def stream(self, message: str, **more: Any) -> list[Event]:
        """The events of a streamed answer."""
        body = {"message": message, "stream": True, **more}
        with httpx.stream("POST", f"{self.url}/api/chat", json=body, timeout=60) as response:
            assert response.status_code == 200, response.read()
            return list(events(response))

    def health(self) -> dict[str, Any]:
        return httpx.get(f"{self.url}/api/health", timeout=10).json()

    def log(self, name: str) -> list[dict[str, Any]]:
        """The lines of a log file."""
        text = (self.folder / "logs" / f"{name}.log").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def metrics(self) -> dict[str, float]:
        """Every sample by its name with labels, as in the text."""
        text = httpx.get(f"{self.url}/api/metrics", timeout=10).text
        lines = (line for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def events(response: httpx.Response) -> Iterator[Event]:
    """The events of a response as they come; comments have the name `comment`."""
    name, data = "message", []
    for line in response.iter_lines():
        if line.startswith(":"):
            yield Event("comment", line[1:].strip())
        elif line.startswith("event:"):
            name = line[6:].strip()
        elif line.startswith("data:"):
            data.append(line[5:].strip())
        elif not line and data:
            yield Event(name, json.loads("\n".join(data)))
            name, data = "message", []


def at_port(url: str, port: int) -> str:
    """The URL with another port."""
    parts = urlsplit(url)
    user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    return urlunsplit(parts._replace(netloc=f"{user}127.0.0.1:{port}"))


@contextmanager
def running_chat(folder: Path, environment: dict[str, str]) -> Iterator[Chat]:
    """`python -m serving` on a free port with its logs below `folder`, stopped at the end."""
    port = ports.free_port()
    folder.mkdir(parents=True, exist_ok=True)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LLM_", "PROMETHEUS_"))}
    given = {"SERVING_PORT": str(port), "LOG_DIR": str(folder / "logs"), "DATABASE_POOL_MIN": "2", **environment}
    with (folder / "output.txt").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "serving"], cwd=REPOSITORY, env=clean | given, stdout=output, stderr=output
        )
    chat = Chat(f"http://127.0.0.1:{port}", folder, process, given)
    try:

        def alive() -> bool:
            assert process.poll() is None, (folder / "output.txt").read_text()
            try:
                return httpx.get(f"{chat.url}/api/health/live", timeout=2).is_success
            except httpx.TransportError:
                return False

        until(alive, 60)
        yield chat
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass(frozen=True)
class Published:
    """A published knowledge base: the environment that a chat needs to answer from it."""

    environment: dict[str, str]


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory, postgres_url: str, qdrant_url: str) -> Iterator[Published]:
    """Four small documents, taken in by the real job."""
    from tests.support.knowledge_base import KnowledgeBase, failures

    home = tmp_path_factory.mktemp("published")
    folder = home / "docs"
    alias = f"chat_{uuid.uuid4().hex[:8]}"
    environment = {
        "DATABASE_URL": postgres_url,
        "QDRANT_URL": qdrant_url,
        "QDRANT_COLLECTION": alias,
        "KNOWLEDGE_SOURCES": f"docs={folder}",
        "KNOWLEDGE_GOLDEN_SET": "",
        "ZHIYUN_HOME": str(home / "home"),
        "EMBEDDING_MODEL": "corpus",
    }
    base = KnowledgeBase(folder, postgres_url, qdrant_url, alias)
    for name, text in {"refunds": REFUNDS, "plans": PLANS, "signing": ENGLISH, "hostile": HOSTILE}.items():
        base.write(f"{name}.md", text)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        result = base.ingest()
    assert result.success, failures(result)
    yield Published(environment)
    for collection in base.client.get_collections().collections:
        if collection.name.startswith(f"{alias}_"):
            base.client.delete_collection(collection.name)


@contextmanager
def wired(environment: dict[str, str], redis_url: str) -> Iterator[tuple[dict[str, str], dict[str, Switch]]]:
    """The environment with each store behind a wire of its own."""
    stores = {
        "database": ("DATABASE_URL", environment["DATABASE_URL"]),
        "redis": ("REDIS_URL", redis_url),
        "qdrant": ("QDRANT_URL", environment["QDRANT_URL"]),
    }
    with ExitStack() as stack:
        wires: dict[str, Switch] = {}
        changed = dict(environment)
        for name, (variable, url) in stores.items():
            parts = urlsplit(url)
            assert parts.port
            wires[name] = stack.enter_context(switch(parts.hostname or "127.0.0.1", parts.port))
            changed[variable] = at_port(url, wires[name].port)
        yield changed, wires


@pytest.fixture(scope="session")
def chat(published: Published, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chat]:
    """A chat without a language model."""
    folder = tmp_path_factory.mktemp("chat")
    with running_chat(folder, {**published.environment, "REDIS_URL": redis_url}) as running:
        until(lambda: running.health()["status"] == "healthy")
        yield running


@pytest.fixture(scope="session")
def standin() -> Iterator[Standin]:
    """A language model's endpoint that does what a test says."""
    with running_standin() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def chat_with_llm(
    published: Published, redis_url: str, standin: Standin, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Chat]:
    """A chat that answers with the stand-in's words."""
    model = {
        "LLM_BASE_URL": standin.url,
        "LLM_MODEL": "stand-in",
        "LLM_API_KEY": "sk-very-secret-key",
        "LLM_CONNECT_TIMEOUT": "1",
        "LLM_FIRST_TOKEN_TIMEOUT": "2",
        "LLM_TIMEOUT": "4",
    }
    folder = tmp_path_factory.mktemp("chat-llm")
    with running_chat(folder, {**published.environment, "REDIS_URL": redis_url, **model}) as running:
        until(lambda: running.health()["release"])
        yield running
