"""Sizes and ages as people read them."""

from __future__ import annotations

from datetime import timedelta


def size_text(count: float) -> str:
    """Bytes as `950 B`, `1.2 GB`: decimal, as disks and buckets are sold."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.95 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def age_text(age: timedelta) -> str:
    """`4 min`, `26 h`, `12 d`; what lies in the future says so."""
    minutes = age.total_seconds() / 60
    if minutes < -1:
        return "in the future"
    if minutes < 100:
        return f"{max(minutes, 0):.0f} min"
    return f"{minutes / 60:.0f} h" if minutes < 48 * 60 else f"{minutes / 1440:.0f} d"
