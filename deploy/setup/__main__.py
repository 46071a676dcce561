"""`make setup` and its kin: python -m deploy.setup run|development|lock [--stamp FILE].

Only the standard library is there when this runs.
"""

from __future__ import annotations

import argparse
import fcntl
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from deploy.setup import environment, resolve
from deploy.setup.pip import Pip
from deploy.setup.report import Report

REPOSITORY = Path(__file__).absolute().parents[2]


def main() -> int:
    """Does what the command line says; its exit status is 0, 1 after a failure, or 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="deploy.setup", description="Sets up .venv, or resolves the lock files.")
    parser.add_argument("what", choices=["run", "development", "lock"])
    parser.add_argument(
        "--stamp", type=Path, help="file that says that it is done; there is nothing to do where it exists"
    )
    given = parser.parse_args()
    report = Report()
    build = REPOSITORY / "build"
    build.mkdir(exist_ok=True)
    log = build / {"run": "setup.log", "development": "setup-dev.log", "lock": "lock.log"}[given.what]
    with _alone(build / "setup.lock", report) as lock:
        if given.stamp and given.stamp.exists():  # by the setup that was waited for
            return 0
        venv = build / "lock" if given.what == "lock" else REPOSITORY / ".venv"
        log.unlink(missing_ok=True)
        pip = Pip(venv, REPOSITORY, log, files=(lock.fileno(),))
        work = {"run": environment.runtime, "development": environment.development, "lock": resolve.resolve}
        began = time.monotonic()
        try:
            work[given.what](pip, report)
        except environment.SetupError as error:
            report.say(
                f"Setup failed: {error}. All that pip said is in {log.relative_to(REPOSITORY)}; what is installed is kept."
            )
            return 1
        except KeyboardInterrupt:
            report.say("Setup was interrupted; what is installed is kept, and the next one goes on from there.")
            return 130
        if given.stamp:
            _stamp(given.stamp)
        report.say(f"== done in {time.monotonic() - began:.0f} s")
        return 0


@contextmanager
def _alone(file: Path, report: Report) -> Generator[TextIO]:
    """Keeps a second setup of this checkout waiting, `make test` beside `make run` for instance."""
    with file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report.say("== another setup is at work in this checkout; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock


def _stamp(stamp: Path) -> None:
    """Writes the stamp, in the place of those of the same kind: `.installed-dev-123` is one of the kind `.installed-dev-`."""
    for outdated in stamp.parent.glob(stamp.name.rpartition("-")[0] + "-*"):
        outdated.unlink()
    stamp.touch()


if __name__ == "__main__":
    sys.exit(main())
