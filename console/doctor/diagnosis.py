"""The whole diagnosis: every area, at once, each for a limited time; what one lacks takes nothing from the others."""

from __future__ import annotations

import queue
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path

from console.doctor import site
from console.doctor.areas import (
    cache,
    chat,
    configuration,
    database,
    language_model,
    machine,
    pipeline,
    processes,
    recovery,
    vectors,
)
from console.doctor.kinds import Finding, Kind, Unwell
from console.doctor.site import Site
from embedded.attach import exported
from zhiyun.settings import SettingsError

_SECONDS = 60.0

UNSET = Kind(
    "doctor.settings_wrong", "note",
    ("Not looked at, since a setting is wrong: {problem}", "设置有误，未检查：{problem}"),
)  # fmt: skip
NOT_RUNNING = Kind(
    "doctor.nothing_to_reach", "note",
    ("Not looked at: zhiyun does not run, or has not started all its services yet.", "zhiyun 未运行或尚未全部启动，未检查。"),
)  # fmt: skip
UNFINISHED = Kind(
    "doctor.took_too_long", "error",
    ("This took longer than {seconds} s, so it is not known; something there does not answer.", "检查超过 {seconds} 秒未完成，情况不明；有服务不应答。"),
    ("`zhiyun doctor {area}` looks at it alone.", "`zhiyun doctor {area}` 可单独检查。"),
)  # fmt: skip
BROKEN = Kind(
    "doctor.check_failed", "error",
    ("Doctor could not go on here: {problem}", "此处检查无法继续：{problem}"),
    ("This is a fault of doctor, or something it does not know: please report it with `zhiyun doctor --json {area}`.",
     "这是 doctor 的缺陷或未知情况：请附上 `zhiyun doctor --json {area}` 的输出反馈。"),
)  # fmt: skip

Check = Callable[[Site], Iterator[Finding]]

AREAS: Mapping[str, tuple[tuple[str, str], Check]] = {
    "configuration": (("Configuration", "配置"), configuration.check),
    "machine": (("This machine", "本机"), machine.check),
    "processes": (("Processes", "进程"), processes.check),
    "database": (("PostgreSQL", "PostgreSQL"), database.check),
    "redis": (("Redis", "Redis"), cache.check),
    "vectors": (("Vector store and model", "向量库与模型"), vectors.check),
    "llm": (("Language model", "语言模型"), language_model.check),
    "pipeline": (("Dagster", "Dagster"), pipeline.check),
    "recovery": (("Recovery points", "恢复点"), recovery.check),
    "chat": (("Chat", "对话服务"), chat.check),
}
_NEED_SERVICES = {"database", "redis", "vectors", "pipeline", "chat"}


def diagnose(areas: Iterable[str] = ()) -> tuple[Site, list[Finding]]:
    """Look at these areas (without any, at all), and give what was found, in the order of AREAS."""
    wanted = list(areas) or list(AREAS)
    here = site.find()
    environment = site.attempt(here.environment, OSError, ValueError) or {}
    # What the operator has set, without what the stack adds to it.
    found = _at_once(here, [area for area in wanted if area == "configuration"])
    with exported(environment) if environment else nullcontext():
        # The processor before the rest: doctor's own work is no load to be told of.
        found |= _at_once(here, [area for area in wanted if area == "machine"])
        found |= _at_once(here, [area for area in wanted if area not in ("configuration", "machine")])
    unwell = {area for area, findings in found.items() if any(one.severity == "error" for one in findings)}
    return here, [
        finding
        for area in AREAS
        for finding in found.get(area, ())
        if chat.area_of(finding) not in unwell  # told there, with its cause
    ]


def _at_once(here: Site, areas: list[str]) -> dict[str, list[Finding]]:
    """Each area in a thread that nobody waits for longer than its time."""
    done: queue.Queue[str] = queue.Queue()
    found: dict[str, list[Finding]] = {area: [] for area in areas}

    def look(area: str) -> None:
        _look(here, area, found[area])
        done.put(area)

    for area in areas:
        threading.Thread(target=look, args=(area,), daemon=True).start()
    deadline = time.monotonic() + _SECONDS
    waiting = set(areas)
    while waiting:
        try:
            waiting.discard(done.get(timeout=max(0.0, deadline - time.monotonic())))
        except queue.Empty:
            break
    # What an area has found before it got stuck may be why.
    return {
        area: [*findings, UNFINISHED(seconds=f"{_SECONDS:.0f}", area=area).of(area)] if area in waiting else findings
        for area, findings in found.items()
    }


def _look(here: Site, area: str, found: list[Finding]) -> None:
    """Add what is found in an area, one after another."""
    if area in _NEED_SERVICES and not here.reachable:
        found.append(NOT_RUNNING().of(area))
        return
    try:
        for finding in AREAS[area][1](here):
            found.append(finding.of(area))  # noqa: PERF401  what came before a failure counts
    except Unwell as unwell:
        found.append(unwell.finding.of(area))
    except SettingsError as error:
        found.append(UNSET(problem=error).of(area))
    except Exception as error:  # doctor has to go on whatever it meets
        # Not what the error says: it may quote a URL with its password.
        frame = traceback.extract_tb(error.__traceback__)[-1]
        problem = f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
        found.append(BROKEN(problem=problem, area=area).of(area))
