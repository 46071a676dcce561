"""One try at a recovery point: its steps leave what they made in the store, so that a later step or a retry finds it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Generic, Literal, TypeVar

import msgspec

from objects.store import ObjectMissing, ObjectStore
from orchestration.backups.recovery_point import BackupError, FilesPart, GoldenPart, PostgresPart, VectorsPart, folder

By = Literal["schedule", "hand"]
P = TypeVar("P", bound=msgspec.Struct)
_STEPS = {"postgres": PostgresPart, "vectors": VectorsPart, "files": FilesPart, "golden": GoldenPart}


class _Step(msgspec.Struct, Generic[P]):
    part: P
    at: datetime
    seconds: float


class Attempt(msgspec.Struct, frozen=True):
    """`name` tells this try's objects apart from those of another try at the same point."""

    point: str
    name: str
    by: By

    @property
    def prefix(self) -> str:
        """Where this try's objects lie."""
        return f"{folder(self.point)}{self.name}/"

    def step(self, store: ObjectStore, step: str, work: Callable[[], P]) -> P:
        """Do a step and write down what it made, when it began and how long it took."""
        at, began = datetime.now(UTC), time.monotonic()
        part = work()
        self.note(store, step, part, at, time.monotonic() - began)
        return part

    def note(self, store: ObjectStore, step: str, part: msgspec.Struct, at: datetime, seconds: float) -> None:
        store.put(self._key(step), [msgspec.json.encode(_Step(part, at, seconds))])

    def made(self, store: ObjectStore, step: str, kind: type[P]) -> tuple[P, datetime, float]:
        """What a step of this try has made, when it began, and its seconds. Raises BackupError if it has not been done."""
        try:
            data = b"".join(store.read(self._key(step)))
        except ObjectMissing:
            raise BackupError(
                f"The step {step!r} of recovery point {self.point} was not done in this run (try {self.name}); "
                "start the whole job. Earlier points are untouched."
            ) from None
        found = msgspec.json.decode(data, type=_Step[kind])
        return found.part, found.at, found.seconds

    def _key(self, step: str) -> str:
        return f"{self.prefix}{step}.json"

    def step_keys(self) -> list[str]:
        """The notes of the steps: of no use once there is a manifest."""
        return [self._key(step) for step in _STEPS]


def attempt(point: str, run: str, by: By) -> Attempt:
    """The try of a run (Dagster's run id, or any other unique text) at a point."""
    name = re.sub(r"[^0-9a-z]", "", run.lower())[:12]
    if not name:
        raise ValueError(f"{run!r} names no run")
    return Attempt(point, name, by)
