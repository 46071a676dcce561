"""The virtual environment: what running needs, then, if asked for, the development tools."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

from deploy.setup import locks, torch
from deploy.setup.pip import Pip, PipError, megabytes
from deploy.setup.report import Report, Step


class SetupError(Exception):
    """Setting up failed; the message is a sentence that says why."""


def runtime(pip: Pip, report: Report) -> None:
    """Sets up what running needs in pip's environment. Raises SetupError; what was installed stays for the next time."""
    lock = locks.read(pip.folder / locks.RUNTIME)
    pip.about_bytes = lock.fetch * 1_000_000
    report.say(
        f"== setting up {_shown(pip.venv, pip)} with Python {platform.python_version()}: {len(lock.requirements)} packages, "
        f"about {lock.fetch:,} MB to fetch, {lock.disk:,} MB on disk (log: {_shown(pip.log, pip)})"
    )
    with report.step("virtual environment") as step:
        _create(pip, step)
    with report.step(f"PyTorch {lock.torch}, CPU build") as step:
        try:
            torch.install(pip, step, lock.torch)
        except torch.NoTorchError as error:
            raise SetupError(str(error)) from error
    with report.step(f"packages of {locks.RUNTIME}") as step:
        _packages(pip, step, locks.RUNTIME, lock.others)
    with report.step("the platform itself") as step:
        try:
            pip.install(step, 1, ("--no-deps", "--editable", "."))
        except PipError as error:
            raise SetupError(f"the platform itself could not be installed ({error})") from error
        step.outcome = "editable"


def development(pip: Pip, report: Report) -> None:
    """Adds the development tools to an environment that `runtime` has set up. Raises SetupError."""
    lock = locks.read(pip.folder / locks.DEVELOPMENT)
    pip.about_bytes = lock.fetch * 1_000_000
    report.say(
        f"== adding the development tools to {_shown(pip.venv, pip)}: {len(lock.requirements)} packages, "
        f"about {lock.fetch:,} MB to fetch, {lock.disk:,} MB on disk (log: {_shown(pip.log, pip)})"
    )
    _forget_interrupted(pip.venv)
    with report.step(f"packages of {locks.DEVELOPMENT}") as step:
        _packages(pip, step, locks.DEVELOPMENT, lock.requirements)


def _create(pip: Pip, step: Step) -> None:
    if pip.works():
        step.outcome = "is there"
        _forget_interrupted(pip.venv)
        return
    create(pip)


def create(pip: Pip) -> None:
    """Makes pip's environment, empty. Raises SetupError."""
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", pip.venv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    with pip.log.open("ab") as log:
        log.write(made.stdout)
    if made.returncode or not pip.works():
        raise SetupError(
            f"{sys.executable} cannot make virtual environments; install its venv module (Debian: python3.11-venv)"
        )


def _packages(pip: Pip, step: Step, name: str, requirements: tuple[str, ...]) -> None:
    # The file is complete: to work out once more what needs what takes pip longer than to install it.
    try:
        done = pip.install(step, len(requirements), ("--no-deps", *requirements))
    except PipError as error:
        raise SetupError(f"the packages of {name} could not be installed ({error})") from error
    there = f", {done.there} were there" if done.there else ""
    step.outcome = f"{done.packages} packages{there}, {megabytes(done.fetched_bytes)} fetched"


def _forget_interrupted(venv: Path) -> None:
    """A package whose installation was interrupted has no RECORD: pip would take it for whole."""
    for folder in venv.glob("lib/python*/site-packages/*.dist-info"):
        if not (folder / "RECORD").exists():
            shutil.rmtree(folder)


def _shown(path: Path, pip: Pip) -> str:
    return str(path.relative_to(pip.folder))
