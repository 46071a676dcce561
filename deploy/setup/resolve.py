"""Resolving pyproject.toml afresh into the two lock files."""

from __future__ import annotations

import shutil

from deploy.setup import environment, locks, torch
from deploy.setup.pip import Pip, PipError
from deploy.setup.report import Report


def resolve(pip: Pip, report: Report) -> None:
    """Writes both lock files, from packages that are installed into pip's environment for it. Raises SetupError.

    What running needs is resolved first and by itself: the tools take what they find, so no test tool holds back a package
    that customers' answers depend on. PyTorch stays the version of the lock file; a new one is written there by hand.
    """
    version = locks.read(pip.folder / locks.RUNTIME).torch
    report.say(f"== resolving pyproject.toml in {pip.venv.relative_to(pip.folder)}")
    shutil.rmtree(pip.venv, ignore_errors=True)
    with report.step("virtual environment"):
        environment.create(pip)
    empty = _disk(pip)
    try:
        with report.step(f"PyTorch {version}, CPU build") as step:
            torch.install(pip, step, version)
        with report.step("what running needs") as step:
            pip.install(step, 0, (".",))
            runtime = locks.Lock(_frozen(pip), pip.fetched_bytes // 1_000_000, _disk(pip) - empty)
            step.outcome = f"{len(runtime.requirements)} packages"
        with report.step("the development tools") as step:
            fixed = pip.venv / "runtime.txt"
            fixed.write_text("".join(f"{one}\n" for one in runtime.requirements))
            pip.install(step, 0, ("--constraint", str(fixed), ".[dev]"))
            added = tuple(one for one in _frozen(pip) if one not in runtime.requirements)
            fetched = pip.fetched_bytes // 1_000_000 - runtime.fetch
            development = locks.Lock(added, fetched, _disk(pip) - empty - runtime.disk)
            step.outcome = f"{len(added)} packages more"
    except (PipError, torch.NoTorchError) as error:
        raise environment.SetupError(f"pyproject.toml could not be resolved ({error})") from error
    locks.write(pip.folder / locks.RUNTIME, runtime, "What running needs.")
    locks.write(pip.folder / locks.DEVELOPMENT, development, f"What the development tools add to {locks.RUNTIME}.")
    shutil.rmtree(pip.venv)


def _frozen(pip: Pip) -> tuple[str, ...]:
    return locks.frozen(pip.ask("freeze", "--all"))


def _disk(pip: Pip) -> int:
    """Megabytes that the environment takes."""
    return sum(file.stat().st_blocks for file in pip.venv.rglob("*") if not file.is_symlink()) * 512 // 1_000_000
