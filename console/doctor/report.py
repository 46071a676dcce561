"""The diagnosis for people and for scripts."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from console.doctor.diagnosis import AREAS
from console.doctor.kinds import SEVERITIES, SEVERITY_WORDS, Finding, Language, Severity
from console.doctor.site import Site

_WIDTH = 110
_SIGNS: Mapping[Severity, str] = {"ok": "✓", "note": "·", "warning": "!", "error": "✗"}
_PLAIN = str.maketrans("✓·✗→", " -X>")
_COLOURS: Mapping[Severity, str] = {"ok": "32", "note": "36", "warning": "33", "error": "31;1"}


def language_of(environment: Mapping[str, str]) -> Language:
    """Chinese where the terminal's locale is."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if value := environment.get(name):
            return "zh" if value.lower().startswith("zh") else "en"
    return "en"


def exit_status(findings: Sequence[Finding]) -> int:
    """0 all is well, 1 warnings only, 2 something is broken."""
    return {"ok": 0, "note": 0, "warning": 1, "error": 2}[_worst(findings)]


def as_dict(site: Site, findings: Sequence[Finding], language: Language) -> dict[str, Any]:
    """For `--json`. `code` and `values` stay the same from version to version, the words need not."""
    return {
        "status": _worst(findings),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "home": str(site.place.home) if site.embedded else None,
        "findings": [
            {
                "area": one.area, "code": one.kind.code, "severity": one.severity, "says": one.says(language),
                "mend": one.mend(language), "values": dict(one.values),
            }
            for one in findings
        ],
    }  # fmt: skip


def as_text(findings: Sequence[Finding], language: Language, *, colour: bool) -> str:
    """By area: the worst first; what is well in one line each; and how many there were of each severity at the end."""
    chinese = language == "zh"
    lines: list[str] = []
    for area, (title, _) in AREAS.items():
        mine = sorted((one for one in findings if one.area == area), key=lambda one: -SEVERITIES.index(one.severity))
        if mine:
            lines += [title[chinese], *(line for one in mine for line in _told(one, language, colour)), ""]
    bad: tuple[Severity, ...] = ("error", "warning", "note")
    told: list[str] = []
    for severity in bad:
        number = sum(one.severity == severity for one in findings)
        if number and chinese:
            told.append(f"{number} 个{SEVERITY_WORDS[severity][1]}")
        elif number:
            told.append(f"{number} {severity}{'s' if number > 1 else ''}")
    return "\n".join([*lines, ("，" if chinese else ", ").join(told) or ("一切正常" if chinese else "all is well")])


def encodable(text: str, encoding: str) -> str:
    """The report for a terminal that does not have all its signs, such as one that speaks GBK."""
    try:
        "✓·✗→".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return text.translate(_PLAIN)
    return text


def wants_colour() -> bool:
    """https://no-color.org"""
    return "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def _told(one: Finding, language: Language, colour: bool) -> list[str]:
    sign = f"  {_SIGNS[one.severity]} "
    if colour:
        sign = f"\033[{_COLOURS[one.severity]}m{sign}\033[0m"
    says = _wrapped(one.says(language), "    ")
    lines = [sign + says[0].lstrip(), *says[1:]]
    if mend := one.mend(language):
        lines += _wrapped(f"→ {mend}", "      ")
    if one.severity in ("warning", "error"):
        lines[-1] += f"  [{one.kind.code}]"
    return lines


def _wrapped(text: str, indent: str) -> list[str]:
    """Commands and addresses stay whole, so that they can be copied."""
    return textwrap.wrap(
        text, _WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    ) or [indent]


def _worst(findings: Sequence[Finding]) -> Severity:
    there = {one.severity for one in findings}
    for severity in SEVERITIES[::-1]:
        if severity in there:
            return severity
    return "ok"
