"""Seconds from `zhiyun up` to the first answer, by service: on an empty folder, and on one that has everything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import httpx

from bench.results import Row
from zhiyun.repository import REPOSITORY

_LONGEST = 300.0


def run() -> Iterable[Row]:
    with tempfile.TemporaryDirectory() as name:
        for kind in ("first", "again"):
            services, total, answered = _start(Path(name) / "home")
            meaning = "empty ZHIYUN_HOME, with the sample taken in" if kind == "first" else "ZHIYUN_HOME with all data"
            for service, seconds in sorted(services.items(), key=lambda item: item[1]):
                yield Row(f"startup.{kind}.{service}", seconds, "s", "from its own start until it is ready", None)
            yield Row(f"startup.{kind}.all_services", total, "s", meaning, None)
            yield Row(f"startup.{kind}.first_answer", answered, "s", meaning, None)


def _start(home: Path) -> tuple[dict[str, float], float, float]:
    """Start the stack, wait for an answer, stop it: seconds of each service, of all, and until the first answer."""
    started = perf_counter()
    environment = {
        **os.environ,
        "ZHIYUN_HOME": str(home),
        "KNOWLEDGE_SOURCES": str(REPOSITORY / "sample" / "knowledge"),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "console", "up"], cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL
    )
    try:
        while True:
            if process.poll() is not None or perf_counter() - started > _LONGEST:
                raise RuntimeError(f"`zhiyun up` gave no answer; see {home / 'logs'}")
            if _answers(home):
                answered = perf_counter() - started
                break
            sleep(0.1)
        while True:  # the first answer may come before the last service is ready
            state = _state(home).get("started") or {}
            if state.get("ready_seconds") and None not in state["services"].values():
                break
            if perf_counter() - started > _LONGEST:
                raise RuntimeError(f"not every service was ready; see {home / 'logs'}")
            sleep(0.1)
        return state["services"], state["ready_seconds"], answered
    finally:
        process.terminate()
        process.wait(30)


def _answers(home: Path) -> bool:
    address = (_state(home).get("urls") or {}).get("chat")
    if not address:
        return False
    try:
        answer = httpx.post(f"{address}/api/chat", json={"message": "QH-40302"}, timeout=10)
    except httpx.TransportError:
        return False
    return answer.is_success and bool(answer.json()["citations"])


def _state(home: Path) -> dict[str, Any]:
    try:
        return json.loads((home / "run" / "state.json").read_text())
    except (OSError, ValueError):
        return {}
