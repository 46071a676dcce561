"""A process that makes a recovery point, for tests that kill it: forked from one that has everything imported."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess

PART = 256 << 10
"""Bytes of a part of an upload: so few that a dump of some MB has several."""
_IMPORTED = [
    "tests.support.backups.worker", "orchestration.backups.making.steps", "boto3.session", "botocore.config", "qdrant_client",
    "zstandard", "pyrage", "objects.s3_uploads", "knowledge.models.static_embedding", "torch",
]  # fmt: skip


class Worker:
    """A backup that is under way in a process of its own."""

    def __init__(self, environment: Mapping[str, str], point: str) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_IMPORTED)
        self._answer, theirs = context.Pipe(duplex=False)
        self.process: ForkServerProcess = context.Process(
            target=_make, args=(dict(environment), point, theirs), daemon=True
        )
        self.process.start()
        theirs.close()
        # It says so when it begins: a moment is counted from there, and not from a fork on a busy machine.
        assert self._answer.recv() == ("began", "")

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def kill(self) -> None:
        self.process.kill()

    def end(self, seconds: float = 90) -> tuple[str, str]:
        """What came of it: `made`, `refused` with the sentence, `crashed` with the traceback, or `killed`."""
        try:
            if not self._answer.poll(seconds):
                self.process.kill()
                return "hung", f"it had not ended after {seconds} s"
            told: tuple[str, str] = self._answer.recv()
        except EOFError:
            told = "killed", ""
        self.process.join(30)
        self._answer.close()
        return told


def _make(environment: dict[str, str], point: str, answer: Connection) -> None:
    os.environ.update(environment)
    from objects import s3_uploads
    from orchestration.backups.expected import EXPECTED
    from orchestration.backups.installation import installation
    from orchestration.backups.making import steps

    s3_uploads._PART = PART
    answer.send(("began", ""))
    try:
        made = steps.make(installation(), point, "schedule")
    except EXPECTED as error:
        answer.send(("refused", str(error)))
    except BaseException:
        answer.send(("crashed", traceback.format_exc()))
    else:
        answer.send(("made", "; ".join(f"{store}: {why}" for store, why in made.problems.items() if why)))
