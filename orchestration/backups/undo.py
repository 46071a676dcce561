"""Taking back what a restore has made when a later step fails."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any


class Undo:
    """Steps back, done in reverse order if the block raises, and not otherwise once `keep` was called.

    A step back that fails does not hide why the block did: it is told to `say`, and the others are done.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._steps: list[Callable[[], object]] = []

    def later(self, step: Callable[..., object], *arguments: Any) -> None:
        """Do this first if the block fails."""
        self._steps.append(lambda: step(*arguments))

    def keep(self) -> None:
        """All is done: nothing is taken back any more."""
        self._steps.clear()

    def __enter__(self) -> Undo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.now()

    def now(self) -> None:
        """Take back what is to be taken back."""
        while self._steps:
            step = self._steps.pop()
            try:
                step()
            except Exception as failed:
                self._say(f"could not be taken back: {failed}")
