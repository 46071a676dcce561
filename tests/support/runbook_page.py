"""The runbook as tests read it: its commands, and the codes of findings that it cites."""

from __future__ import annotations

import re
from dataclasses import dataclass

from zhiyun.repository import REPOSITORY

OPERATIONS = REPOSITORY / "docs" / "operations"
PAGES = {"en": OPERATIONS / "runbook.md", "zh": OPERATIONS / "runbook.zh-CN.md"}

_FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([a-z]+\.[a-z_]+)`")


@dataclass(frozen=True)
class Commands:
    """A block of the page that an operator types. `statuses`: those that it may end with, as the block says after `sh`."""

    line: int
    text: str
    statuses: tuple[int, ...] = (0,)
    on: str = ""


def commands(page: str) -> list[Commands]:
    """Every block marked `sh`, in the page's order: ```sh exit=0,1 on=new-machine."""
    found: list[Commands] = []
    for match in _FENCE.finditer(page):
        if match[1] != "sh":
            continue
        options = dict(option.split("=") for option in match[2].split())
        statuses = tuple(int(status) for status in options.pop("exit", "0").split(","))
        on = options.pop("on", "")
        assert not options, f"unknown: {options}"
        found.append(Commands(page[: match.start()].count("\n") + 1, match[3], statuses, on))
    return found


def cited(page: str) -> list[tuple[str, str]]:
    """Codes of findings, each with the line that it stands in."""
    areas = "chat|configuration|database|doctor|llm|machine|network|pipeline|processes|recovery|redis|vectors"
    return [
        (code, line)
        for line in without_fences(page).splitlines()
        for code in _CODE.findall(line)
        if re.fullmatch(areas, code.split(".")[0]) and not code.endswith((".md", ".log", ".json"))
    ]


def without_fences(page: str) -> str:
    """The page's prose and tables."""
    return _FENCE.sub("", page)
