"""How long each step of a restore took: what the recovery time is made of."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager

from orchestration.backups.progress import Progress


class Timing:
    """Seconds by step, in the order of the steps."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._began = time.monotonic()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Generator[None]:
        """Time a step, also when it fails. A step that comes again adds up."""
        began = time.monotonic()
        self._progress.step(name)
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - began, 3)

    @property
    def total(self) -> float:
        """Seconds since the first moment."""
        return round(time.monotonic() - self._began, 3)

    def lines(self) -> list[str]:
        """One for each step, and the sum."""
        return [*(f"{name}: {seconds:.1f} s" for name, seconds in self.seconds.items()), f"in all: {self.total:.1f} s"]
