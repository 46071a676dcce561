"""PostgreSQL's client programs at the other end of a pipe.

A pipe holds 1 MiB where the system allows it. A program that fails, or is killed, is an exception with what it said
last; one that is no longer wanted is killed, and none outlives us.
"""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from orchestration.backups.recovery_point import BackupError
from orchestration.backups.streams.parallel import ahead

CHUNK = 1 << 20
_COMPLAINTS = 64 * 1024
_QUERIES = tuple(f"{before}{what} was:" for before in ("", "detail: ") for what in ("Command", "Query"))


class ProgramFailed(BackupError):
    """A program ended with an error; `words` is what it said, `code` its exit code, negative when a signal ended it."""

    def __init__(self, name: str, words: str, code: int) -> None:
        super().__init__(f"{name} failed: {words}")
        self.words, self.code = words, code

    @property
    def killed(self) -> bool:
        return self.code < 0


class Program:
    """A running program; made by `running`."""

    def __init__(self, process: subprocess.Popen[bytes], name: str, complaints: IO[bytes]) -> None:
        self._process, self._name, self._complaints = process, name, complaints
        for pipe in (process.stdin, process.stdout):
            if pipe:
                _enlarge(pipe)

    @property
    def pid(self) -> int:
        return self._process.pid

    def chunks(self) -> Generator[bytes]:
        """What it writes, in pieces of 1 MiB. Raises ProgramFailed after the last if it did not end well.

        It is killed when these are closed before the last.
        """
        output = self._process.stdout
        assert output is not None
        early = ahead(iter(lambda: output.read(CHUNK), b""))
        try:
            # `yield from` would close it, and so wait for the program, before that is killed.
            for chunk in early:  # noqa: UP028
                yield chunk
        except GeneratorExit:
            self._process.kill()
            raise
        finally:
            early.close()
        self.finish()

    def feed(self, chunks: Iterable[bytes]) -> None:
        """Give it all of `chunks` to read, and wait until it is done. Raises ProgramFailed, or what `chunks` raises."""
        pipe, pieces = self._process.stdin, iter(chunks)
        assert pipe is not None
        try:
            for piece in pieces:
                rest = memoryview(piece)
                while rest:
                    rest = rest[os.write(pipe.fileno(), rest) :]
        except BrokenPipeError:
            self.finish()  # raises, unless it has read all that it needed
            for _ in pieces:  # whoever makes them may have a last word on whether they were right
                pass
        with suppress(BrokenPipeError):
            pipe.close()
        self.finish()

    def finish(self) -> None:
        """Wait for its end. Raises ProgramFailed if that was not a good one."""
        code = self._process.wait()
        if code < 0:
            raise ProgramFailed(self._name, f"it was ended by {signal.Signals(-code).name}", code)
        if code:
            raise ProgramFailed(self._name, self._said() or f"exit code {code}", code)

    def said(self) -> str:
        """All that it has complained of, up to 64 KiB, whether or not it failed."""
        self._complaints.seek(0)
        return self._complaints.read(_COMPLAINTS).decode("utf-8", errors="replace")

    def _said(self) -> str:
        """Its error with what belongs to it, on one line."""
        lines = [line.removeprefix(f"{self._name}: ").strip() for line in self.said().splitlines() if line.strip()]
        errors = [number for number, line in enumerate(lines) if "error:" in line.lower() or "fatal:" in line.lower()]
        kept = lines[errors[0] :] if errors else lines[-1:]
        kept = [line for line in kept if not line.startswith(_QUERIES)]
        return " ".join(line.removeprefix("error: ").removeprefix("detail: ") for line in kept)[:400]


@contextmanager
def running(
    command: Sequence[str], environment: Mapping[str, str], *, reads: bool = False, writes: bool = False
) -> Generator[Program]:
    """Run a program for as long as the block lasts: with `reads` it is fed, with `writes` its output is read.

    It is killed when the block, or the thread that opened the block, ends first.
    """
    name = Path(command[0]).name
    with tempfile.TemporaryFile() as complaints:
        try:
            process = subprocess.Popen(
                [*_dies_with_us(), *command],
                bufsize=64 * 1024,
                stdin=subprocess.PIPE if reads else subprocess.DEVNULL,
                stdout=subprocess.PIPE if writes else subprocess.DEVNULL,
                stderr=complaints,
                env=dict(environment),
                cwd="/",
                start_new_session=True,  # an interrupt at the terminal is ours to handle
            )
        except OSError as error:
            raise BackupError(f"{command[0]} cannot be run ({error.strerror}); nothing was changed.") from None
        try:
            yield Program(process, name, complaints)
        finally:
            if process.poll() is None:
                process.kill()
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    with suppress(BrokenPipeError):
                        pipe.close()
            process.wait()


@functools.cache
def _dies_with_us() -> list[str]:
    # By a program and not in a function between fork and exec, which is not safe in a process with threads. Without
    # it (other systems than Linux) the broken pipe ends them, a little later.
    setpriv = shutil.which("setpriv", path=f"{os.environ.get('PATH', '')}:/usr/bin:/bin")
    if not setpriv or subprocess.run([setpriv, "--pdeathsig", "KILL", "true"], check=False).returncode:
        return []
    return [setpriv, "--pdeathsig", "KILL", "--"]


def _enlarge(pipe: IO[bytes]) -> None:
    # Refused where an ordinary user has many of them; it then works in smaller steps.
    with suppress(OSError, AttributeError):
        fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, CHUNK)
