"""pip in a virtual environment: its output goes to a log, and how far it is to the step's line."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from deploy.setup.progress import Progress, error
from deploy.setup.report import Step


class PipError(Exception):
    """pip failed; the message is its own last word."""


@dataclass
class Pip:
    """pip of the virtual environment `venv`, called from `folder`; what it says is appended to `log`."""

    venv: Path
    folder: Path
    log: Path
    # Stay open in pip too: a lock held by them lasts as long as pip does, even where its caller is killed.
    files: tuple[int, ...] = ()
    fetched_bytes: int = 0  # by all runs so far, in bytes
    about_bytes: int = 0  # of all runs to come, as far as known; 0 if it is not

    def works(self) -> bool:
        """Whether the environment is there and has a pip."""
        try:
            return not subprocess.run(self._command("--version"), capture_output=True, timeout=60).returncode
        except (OSError, subprocess.TimeoutExpired):
            return False

    def ask(self, *arguments: str) -> str:
        """What pip writes to standard output when called with `arguments`; nothing where it fails."""
        asked = subprocess.run(self._command(*arguments), cwd=self.folder, capture_output=True, text=True)
        return "" if asked.returncode else asked.stdout

    def install(self, step: Step, packages: int, arguments: Iterable[str]) -> Progress:
        """Installs what `arguments` name, which are `packages` packages (0: not known), and shows how far it is on the step's line.

        Raises PipError with pip's last word.
        """
        progress = Progress(packages)
        began = self.log.stat().st_size if self.log.exists() else 0
        with _scratch(self.log.with_suffix(".tmp")) as scratch:
            command = self._command("install", "--no-input", "--progress-bar=off", *arguments)
            # What is being fetched grows below TMPDIR: from there is known how much of a large file has come.
            environment = os.environ | {"TMPDIR": str(scratch), "PYTHONUNBUFFERED": "1"}
            with (
                self.log.open("ab") as log,
                subprocess.Popen(
                    command, cwd=self.folder, env=environment, pass_fds=self.files,
                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                ) as process,
            ):  # fmt: skip
                log.write(f"$ {' '.join(command)}\n".encode())
                log.flush()
                assert process.stdout
                try:
                    self._follow(process.stdout.fileno(), log.fileno(), progress, step, scratch)
                    status = process.wait()
                except KeyboardInterrupt:  # at a terminal pip has it too, and may be putting back what it was replacing
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(5)
                    process.terminate()
                    raise
        if status:
            with self.log.open("rb") as log:
                log.seek(began)
                raise PipError(error(log.read().decode(errors="replace")))
        self.fetched_bytes += progress.fetched_bytes
        return progress

    def _follow(self, pipe: int, log: int, progress: Progress, step: Step, scratch: Path) -> None:
        rest = b""
        before = self._installed()
        while True:
            if select.select([pipe], [], [], 0.2)[0]:
                chunk = os.read(pipe, 1 << 16)
                if not chunk:
                    return
                os.write(log, chunk)
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    progress.read(line.decode(errors="replace"))
            if progress.installing:
                step.now(f"{max(self._installed() - before, 0)} of {progress.installing} unpacked")
            else:
                step.now(self._fetching(progress, scratch))

    def _fetching(self, progress: Progress, scratch: Path) -> str:
        """How far fetching is, in words that leave room for the file's name on a line of 80 characters."""
        missing = progress.file_bytes - _grown(scratch, progress.file) if progress.file else 0
        fetched = megabytes(self.fetched_bytes + progress.fetched_bytes - max(missing, 0))
        if self.about_bytes:
            fetched = f"{fetched.removesuffix(' MB')} of {megabytes(self.about_bytes)}"
        packages = f"{progress.there + progress.fetched}" + (f" of {progress.packages}" if progress.packages else "")
        return f"{packages}, {fetched}  {progress.file}"

    def _installed(self) -> int:
        return sum(1 for _ in self.venv.glob("lib/python*/site-packages/*.dist-info"))

    def _command(self, *arguments: str) -> list[str]:
        return [str(self.venv / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", *arguments]


@contextmanager
def _scratch(folder: Path) -> Generator[Path]:
    """An empty folder for what pip fetches, some hundred megabytes: what a killed setup left in it is not left for good."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _grown(scratch: Path, file: str) -> int:
    """The bytes of `file` that have come, pip's folder of it being below `scratch`; all of them where it is not seen."""
    try:
        return max(one.stat().st_size for one in scratch.glob("pip-unpack-*/*") if one.name == file)
    except (OSError, ValueError):
        return 1 << 62


def megabytes(size: int) -> str:
    """`size` bytes in words: `494 MB`."""
    return f"{size / 1e6:,.0f} MB"
