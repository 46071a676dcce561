"""`zhiyun up` and the other commands as a user has them, on a ZHIYUN_HOME of a test's own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from embedded.layout import Layout
from embedded.services.processes import runs, session_members
from zhiyun.repository import REPOSITORY
from zhiyun.settings import ALL, variable_name


def environment(home: Path, **settings: str) -> dict[str, str]:
    """The caller's environment without any of the platform's settings, and those given."""
    ours = {variable_name(model, field) for model in ALL for field in model.model_fields}
    return (
        {name: value for name, value in os.environ.items() if name not in ours} | {"ZHIYUN_HOME": str(home)} | settings
    )


class Stack:
    """One `zhiyun up` after another on the same ZHIYUN_HOME."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.layout = Layout(home, home / "logs")
        self.terminal = home.parent / "terminal"
        self.process: subprocess.Popen[bytes] | None = None

    def up(self, *before: str, **settings: str) -> None:
        """Start, and wait for the table."""
        with self.terminal.open("wb") as stream:
            self.process = subprocess.Popen(
                [*before, sys.executable, "-X", "faulthandler", "-m", "console", "up"],
                cwd=REPOSITORY,
                env=environment(self.home, **settings),
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        self.wait_said("Stop: Ctrl-C here")

    def wait_said(self, text: str, seconds: float = 240) -> str:
        """Wait for a line on the terminal, and give it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for line in self.said().splitlines():
                if text in line:
                    return line
            assert self.process is not None
            assert self.process.poll() is None, self.said()
            time.sleep(0.2)
        self._abort()
        raise TimeoutError(f"{text!r} was not said:\n{self.said()}")

    def wait_ended(self, seconds: float = 60) -> int:
        """The status with which it ends."""
        assert self.process is not None
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._abort()
            raise TimeoutError(f"it does not end:\n{self.said()}") from None

    def _abort(self) -> None:
        """End it, and have it say on the terminal what each of its threads is at."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGABRT)
            self.process.wait()

    def said(self) -> str:
        return self.terminal.read_text(errors="replace")

    def run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Another `zhiyun` command on the same ZHIYUN_HOME."""
        command = [sys.executable, "-m", "console", *arguments]
        return subprocess.run(
            command,
            cwd=REPOSITORY,
            env=environment(self.home, **settings),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def status(self) -> dict[str, Any]:
        return json.loads(self.run("status", "--json").stdout)

    def pid(self, service: str) -> int:
        return int(self.layout.state()["services"][service]["pid"])

    def orphans(self) -> list[psutil.Process]:
        return [process for process in session_members(self.layout.leaders()) if runs(process)]
