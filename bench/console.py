"""Processor time of commands that start nothing, beside that of a Python that does nothing (`python -c pass`).

A command is measured as `python -m console`; the script `zhiyun` runs the same `main`. All are run in turn, so that what
else the machine does meets each alike, and a ratio is one of medians. The first turn fills the caches and does not count.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median

from bench.results import Row
from zhiyun.repository import REPOSITORY

_TURNS = 12
_COMMANDS: Mapping[str, tuple[Sequence[str], int]] = {
    "help": (("--help",), 0),
    "status": (("status",), 3),  # nothing runs
    "backup_list": (("backup", "list"), 0),
}
"""The arguments of each, and the exit status that belongs to them."""
_HELP_BAR = 6.0


def run() -> Iterable[Row]:
    with tempfile.TemporaryDirectory() as name:
        times: dict[str, list[float]] = {"pass": [], **{command: [] for command in _COMMANDS}}
        for turn in range(_TURNS + 1):
            for command, seconds in times.items():
                spent = _spent(command, Path(name))
                if turn:
                    seconds.append(spent)
    nothing = median(times["pass"])
    yield Row("console.pass_seconds", nothing, "s of processor", "python -c pass", None)
    for command, (arguments, _) in _COMMANDS.items():
        words = f"zhiyun {' '.join(arguments)}"
        spent = median(times[command])
        yield Row(f"console.{command}_seconds", spent, "s of processor", words, None)
        bar = _HELP_BAR if command == "help" else None
        yield Row(
            f"console.{command}_ratio", spent / nothing, "times", f"{words}, python -c pass", bar, more_is_better=False
        )


def _spent(command: str, home: Path) -> float:
    """Seconds of processor, the user's and the system's, that a process takes."""
    arguments, status = _COMMANDS.get(command, ((), 0))
    program = ["-m", "console", *arguments] if arguments else ["-c", "pass"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "ZHIYUN_HOME": str(home / "zhiyun"),
        "BACKUP_STORES": str(home / "backups"),
    }
    process = subprocess.Popen(
        [sys.executable, *program], cwd=home, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr
    with process.stderr as stream:
        told = stream.read().decode(errors="replace")
    _, ended, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(ended)
    if process.returncode != status:
        raise RuntimeError(f"python {' '.join(program)} ended with {process.returncode}: {told}")
    return usage.ru_utime + usage.ru_stime
