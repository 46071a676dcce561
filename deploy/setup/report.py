"""What setting up says: one line a step; on a terminal the line of the step at work is written anew as it goes on."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import TextIO


class Step:
    """A step at work: `now` is what it is at, and `outcome` what is said of it at the end."""

    def __init__(self, title: str, out: TextIO, live: bool) -> None:
        self.title = title
        self.outcome = ""
        self._out = out
        self._live = live
        self._began = time.monotonic()

    def now(self, what: str) -> None:
        """Shows how far the step is, on a terminal only."""
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            self._out.write(f"\r{self._line(what)[:width]}\x1b[K")
            self._out.flush()

    def end(self, outcome: str) -> None:
        """Writes the step's last line, with the seconds that it took."""
        self._out.write(("\r\x1b[K" if self._live else "") + self._line(outcome) + "\n")
        self._out.flush()

    def _line(self, what: str) -> str:
        return f"   {self.title:<34} {time.monotonic() - self._began:>4.0f} s  {what}".rstrip()


class Report:
    """The lines that setting up writes to a terminal, a file or a CI's log."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._live = self._out.isatty() and os.environ.get("TERM", "dumb") != "dumb"

    def say(self, line: str) -> None:
        self._out.write(line + "\n")
        self._out.flush()

    @contextmanager
    def step(self, title: str) -> Generator[Step]:
        """A step, timed from here to the end of the block; one that raises is called failed."""
        step = Step(title, self._out, self._live)
        step.now("")
        try:
            yield step
        except KeyboardInterrupt:
            step.end("interrupted")
            raise
        except BaseException:
            step.end("failed")
            raise
        step.end(step.outcome)
