"""Small plots for the Dagster UI, which shows an image in Markdown if its data is in its address."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import datetime
from html import escape

_WIDTH, _HEIGHT = 560, 140
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 12, 22, 20
_LIMITS = (("#d9a400", 0), ("#e06c00", 1), ("#c0392b", 2))
_POINTS = 280


def percent_plot(title: str, points: Sequence[tuple[datetime, float]], limits: Sequence[float] = ()) -> str:
    """An image in Markdown: percentages over time, 0 to 100, with lines at up to three limits. Empty without points."""
    if not points:
        return ""
    image = base64.b64encode(_svg(title, points[:: max(1, len(points) // _POINTS)], limits).encode()).decode()
    return f"![{_plain(title)}](data:image/svg+xml;base64,{image})"


def _svg(title: str, points: Sequence[tuple[datetime, float]], limits: Sequence[float]) -> str:
    start, end = points[0][0], points[-1][0]
    span = max((end - start).total_seconds(), 1.0)
    inner_width, inner_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def y(percent: float) -> float:
        return _TOP + inner_height * (1 - min(max(percent, 0.0), 100.0) / 100)

    def x(taken: datetime) -> float:
        return _LEFT + inner_width * (taken - start).total_seconds() / span

    line = " ".join(f"{x(taken):.1f},{y(percent):.1f}" for taken, percent in points)
    if len(points) == 1:
        line += f" {_WIDTH - _RIGHT},{y(points[0][1]):.1f}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="11" fill="#555">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="14" font-size="12" fill="#222">{escape(title)}: {points[-1][1]:.1f} %</text>',
    ]
    for mark in (0, 50, 100):
        parts.append(f'<text x="{_LEFT - 6}" y="{y(mark) + 4:.1f}" text-anchor="end">{mark}</text>')
        parts.append(_rule(y(mark), "#ddd", ""))
    for limit, (colour, _) in zip(limits, _LIMITS, strict=False):
        parts.append(_rule(y(limit), colour, ' stroke-dasharray="4 3"'))
    parts.append(f'<polyline points="{line}" fill="none" stroke="#2e6fbd" stroke-width="1.6"/>')
    below = _HEIGHT - 6
    parts.append(f'<text x="{_LEFT}" y="{below}">{start:%Y-%m-%d %H:%M}</text>')
    parts.append(f'<text x="{_WIDTH - _RIGHT}" y="{below}" text-anchor="end">{end:%Y-%m-%d %H:%M} UTC</text></svg>')
    return "".join(parts)


def _rule(at: float, colour: str, more: str) -> str:
    return f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="{colour}"{more}/>'


def _plain(title: str) -> str:
    return "".join(character for character in title if character not in "[]()!\\\n")
