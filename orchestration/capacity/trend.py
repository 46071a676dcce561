"""Where a figure is heading: a robust line through its samples, and when that line meets a limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median

_POINTS = 160  # as many are fitted: all pairs of them are compared
_LEAST = 8
_LEAST_HOURS = 6.0
_DAY = 86_400.0


@dataclass(frozen=True)
class Trend:
    """A Theil–Sen line: the median slope of all pairs, in units a day, with its 95 % interval.

    A single clean-up or a single large import does not turn it, as it would turn a least-squares line
    (Sen 1968, Journal of the American Statistical Association 63).
    """

    per_day: float
    low: float
    high: float
    samples: int
    days: float

    @property
    def grows(self) -> bool:
        """Whether it surely grows: the whole interval is above zero."""
        return self.low > 0


def fit(samples: Sequence[tuple[datetime, float]]) -> Trend | None:
    """The trend of samples in order of time; None for fewer than 8, or less than six hours of them."""
    if len(samples) < _LEAST:
        return None
    start = samples[0][0]
    points = [((taken - start).total_seconds() / _DAY, float(value)) for taken, value in samples]
    days = points[-1][0]
    if days * 24 < _LEAST_HOURS:
        return None
    thinned = _thinned(points)
    slopes = sorted(
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for index, earlier in enumerate(thinned)
        for later in thinned[index + 1 :]
        if later[0] > earlier[0]
    )
    if not slopes:
        return None
    low, high = _interval(slopes, len(thinned))
    return Trend(median(slopes), low, high, len(samples), days)


def days_to_full(trend: Trend | None, free: float) -> float | None:
    """Days until that much more is used; None where it does not surely grow."""
    if trend is None or not trend.grows:
        return None
    return max(free, 0.0) / trend.per_day


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most 160 points: the medians of equal stretches of samples."""
    if len(points) <= _POINTS:
        return points
    stretch = len(points) / _POINTS
    groups = [points[int(i * stretch) : int((i + 1) * stretch)] for i in range(_POINTS)]
    return [(median(x for x, _ in group), median(y for _, y in group)) for group in groups]


def _interval(slopes: list[float], count: int) -> tuple[float, float]:
    """The 95 % interval of the slope, from the variance of Kendall's tau without ties."""
    spread = 1.96 * math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    lower = int((len(slopes) - spread) / 2)
    upper = math.ceil((len(slopes) + spread) / 2)
    return slopes[max(lower, 0)], slopes[min(upper, len(slopes) - 1)]
