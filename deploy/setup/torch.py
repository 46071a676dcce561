"""PyTorch: the CPU build of the locked version, unless the environment has one that is meant to stay.

The package index's own wheel for Linux brings CUDA, some 3 GB more that nothing here needs; so the build is named. Whoever
wants the graphics processor installs a build of his own into .venv, and setting up leaves it there as long as pyproject.toml
admits its version.
"""

from __future__ import annotations

import os
import tomllib
from importlib.metadata import distributions

from deploy.setup.pip import Pip, PipError, megabytes
from deploy.setup.report import Step

# Where the CPU build is taken from if the index that pip is configured with has none.
INDEX = "https://download.pytorch.org/whl/cpu"


class NoTorchError(Exception):
    """No index has the CPU build; the message says what to set."""


def install(pip: Pip, step: Step, locked: str) -> None:
    """Installs the CPU build of PyTorch `locked` into pip's environment, or leaves what is there and may stay.

    Raises NoTorchError where neither pip's index nor TORCH_INDEX_URL has it.
    """
    if kept := _kept(pip, locked):
        step.outcome = f"PyTorch {kept} is there and stays"
        return
    index = os.environ.get("TORCH_INDEX_URL") or INDEX
    wanted = ("--no-deps", f"torch=={locked}+cpu")
    try:
        done = pip.install(step, 1, wanted)
    except PipError:
        step.now(f"pip's index has no CPU build of PyTorch; taking it from {index}")
        try:
            done = pip.install(step, 1, ("--index-url", index, *wanted))
        except PipError as error:
            raise NoTorchError(
                f"PyTorch's CPU build is neither in pip's index nor at TORCH_INDEX_URL={index} ({error}); "
                "set it to a mirror, as in `make setup TORCH_INDEX_URL=https://...`"
            ) from error
    step.outcome = f"{megabytes(done.fetched_bytes)} fetched"


def _kept(pip: Pip, locked: str) -> str:
    """The version of PyTorch that is installed and may stay, or nothing.

    Any build of the locked version may, and of another that pyproject.toml admits every one but a CPU build: that is one
    of ours, of an earlier lock.
    """
    paths = [str(path) for path in pip.venv.glob("lib/python*/site-packages")]
    for torch in distributions(name="torch", path=paths):
        version, _, build = torch.version.partition("+")
        if version == locked or (build != "cpu" and _admitted(pip)):
            return torch.version
    return ""


def _admitted(pip: Pip) -> bool:
    """Whether pyproject.toml admits the PyTorch that is there. Doctor judges alike (console/doctor/areas/machine.py), by what is
    installed by then: `packaging` and the platform's own metadata.
    """
    with (pip.folder / "pyproject.toml").open("rb") as file:
        dependencies = tomllib.load(file)["project"]["dependencies"]
    ranges = [one for one in dependencies if one.startswith("torch") and not one[5:6].isalnum()]
    said = pip.ask("install", "--dry-run", "--no-deps", "--no-index", *ranges)
    return "Requirement already satisfied: torch" in said
