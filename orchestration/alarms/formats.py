"""Alerts in the words of each kind of webhook. What a shape gets has no secrets in it any more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from orchestration.alarms.alert import Status, Told

Format: TypeAlias = Literal["generic", "slack", "dingtalk", "wecom"]
Shape: TypeAlias = Callable[[Status, Sequence[Told]], Mapping[str, Any]]
"""The JSON that a service understands."""

_MARKS = {"critical": "🔴", "warning": "🟠"}
_COLOURS = {"critical": "#c0392b", "warning": "#d9a400"}
_GREEN = "#2e8b57"
# What the services take: WeCom's robots 4096 bytes of Markdown, DingTalk's 20,000, Slack 100 attachments.
_WECOM_BYTES = 4096
_DINGTALK_BYTES = 20_000
_SLACK_ATTACHMENTS = 50
_TEXT = 1500  # characters of one alert


def as_zhiyun(status: Status, alerts: Sequence[Told]) -> dict[str, Any]:
    """Our own format; times are ISO 8601 in UTC."""
    return {
        "service": "zhiyun",
        "status": status,
        "alerts": [
            {
                "key": told.alert.key,
                "severity": told.alert.severity,
                "title": told.alert.title,
                "text": told.alert.text,
                "since": told.since.isoformat(timespec="seconds"),
            }
            for told in alerts
        ],
    }


def as_slack(status: Status, alerts: Sequence[Told]) -> dict[str, Any]:
    """Slack's incoming webhooks: one coloured attachment for each alert."""
    shown = alerts[:_SLACK_ATTACHMENTS]
    more = f" (the first {len(shown)} of them)" if len(shown) < len(alerts) else ""
    return {
        "text": _escaped(_headline(status, alerts)) + more,
        "attachments": [
            {
                "color": _GREEN if status == "resolved" else _COLOURS[told.alert.severity],
                "title": _escaped(told.alert.title),
                "text": _escaped(_shortened(told.alert.text)),
                "footer": _footer(told),
            }
            for told in shown
        ],
    }


def as_dingtalk(status: Status, alerts: Sequence[Told]) -> dict[str, Any]:
    """DingTalk's robots, as Markdown."""
    headline = _headline(status, alerts)
    return {
        "msgtype": "markdown",
        "markdown": {
            "title": headline,
            "text": _within(f"### {headline}", _paragraphs(status, alerts), _DINGTALK_BYTES),
        },
    }


def as_wecom(status: Status, alerts: Sequence[Told]) -> dict[str, Any]:
    """WeCom's robots, as Markdown; what does not fit is counted."""
    text = _within(f"**{_headline(status, alerts)}**", _paragraphs(status, alerts), _WECOM_BYTES)
    return {"msgtype": "markdown", "markdown": {"content": text}}


SHAPES: dict[Format, Shape] = {
    "generic": as_zhiyun,
    "slack": as_slack,
    "dingtalk": as_dingtalk,
    "wecom": as_wecom,
}


def _headline(status: Status, alerts: Sequence[Told]) -> str:
    titles = alerts[0].alert.title if len(alerts) == 1 else f"{len(alerts)} alerts"
    if status == "resolved":
        return f"✅ zhiyun: resolved: {titles}"
    worst = "critical" if any(told.alert.severity == "critical" for told in alerts) else "warning"
    return f"{_MARKS[worst]} zhiyun: {titles}"


def _paragraphs(status: Status, alerts: Sequence[Told]) -> Iterator[str]:
    for told in alerts:
        mark = "✅" if status == "resolved" else _MARKS[told.alert.severity]
        quoted = "\n".join(f"> {line}" for line in _shortened(told.alert.text).splitlines())
        yield f"{mark} **{told.alert.title}**\n{quoted}\n{_footer(told)}"


def _within(heading: str, paragraphs: Iterator[str], limit: int) -> str:
    """Heading and paragraphs in at most so many bytes; the first paragraph is cut if it must be."""
    parts, rest = [heading], list(paragraphs)
    room = limit - len(heading.encode()) - 40  # for the line that counts the rest
    while rest:
        size = len(rest[0].encode()) + 2
        if size > room:
            if len(parts) == 1:
                parts.append(rest.pop(0).encode()[: room - 6].decode("utf-8", "ignore") + "…")
            break
        room -= size
        parts.append(rest.pop(0))
    if rest:
        parts.append(f"… and {len(rest)} more")
    return "\n\n".join(parts)


def _footer(told: Told) -> str:
    return f"{told.alert.key} · since {told.since:%Y-%m-%d %H:%M} UTC"


def _shortened(text: str) -> str:
    return text if len(text) <= _TEXT else text[: _TEXT - 1] + "…"


def _escaped(text: str) -> str:
    """Slack's own three characters."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
