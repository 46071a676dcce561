"""How far a backup or a restore is: told to a person at a terminal, or to a log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from tqdm import tqdm

from orchestration.backups.units import size_text

_PACE = 15.0  # seconds between two lines of a log


class Progress(Protocol):
    """Is told what is being done, and the bytes that went through. Called from several threads."""

    def step(self, what: str) -> None:
        """Something else is being done from now on."""
        ...

    def add(self, count: int) -> None:
        """So many bytes went through."""
        ...

    def say(self, line: str, /) -> None:
        """A sentence that is to stay."""
        ...

    def close(self) -> None:
        """Nothing more comes."""
        ...


class Logged:
    """Lines of a log: each step, and within a long one the bytes and the rate every 15 seconds."""

    def __init__(self, say: Callable[[str], None] = lambda _: None) -> None:
        self._say = say
        self._what = ""
        self._bytes = 0
        self._began = self._spoke = time.monotonic()
        self._lock = threading.Lock()

    def step(self, what: str) -> None:
        with self._lock:
            self._what, self._bytes, self._began = what, 0, time.monotonic()
            self._spoke = self._began
        self._say(what)

    def say(self, line: str, /) -> None:
        self._say(line)

    def add(self, count: int) -> None:
        with self._lock:
            self._bytes += count
            now = time.monotonic()
            if now - self._spoke < _PACE:
                return
            self._spoke = now
            line = f"{self._what}: {size_text(self._bytes)}, {size_text(self._bytes / (now - self._began))}/s"
        self._say(line)

    def close(self) -> None:
        pass


class Bar:
    """A line on a terminal that changes: what is being done, bytes, rate, time."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None
        self._lock = threading.Lock()

    def step(self, what: str) -> None:
        with self._lock:
            self._end()
            self._bar = tqdm(
                desc=what,
                unit="B",
                unit_scale=True,
                mininterval=0.2,
                bar_format="{desc}: {n_fmt}B  {rate_fmt}  {elapsed}",
            )

    def add(self, count: int) -> None:
        with self._lock:
            if self._bar is not None:
                self._bar.update(count)

    def say(self, line: str, /) -> None:
        with self._lock:
            tqdm.write(line)

    def close(self) -> None:
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
