"""Where the embedded stack keeps what, and the record of its processes that the next start reads."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedded.services.processes import Identity
from zhiyun.settings import LogSettings, StackSettings, load

_LEAST_FREE_MB = 200


class HomeUnusable(RuntimeError):
    """ZHIYUN_HOME cannot be used. The message is one line."""


class AlreadyRunning(RuntimeError):
    """Another `zhiyun up` has this ZHIYUN_HOME."""


@dataclass(frozen=True)
class Layout:
    """The folders of one ZHIYUN_HOME."""

    home: Path
    logs: Path

    @property
    def run(self) -> Path:
        return self.home / "run"

    @property
    def state_file(self) -> Path:
        return self.run / "state.json"

    @property
    def dagster(self) -> Path:
        return self.home / "dagster"

    @property
    def metrics(self) -> Path:
        return self.run / "prometheus"

    def make(self) -> None:
        """Make the folders, and see that they can be written to. Raises HomeUnusable."""
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            self.home.chmod(self.home.stat().st_mode & ~0o022)
            for folder in (self.run, self.logs, self.dagster):
                folder.mkdir(parents=True, exist_ok=True)
                trial = folder / f".trial-{os.getpid()}"
                trial.write_bytes(b"\0" * 65536)
                trial.unlink()
            free = shutil.disk_usage(self.home).free // 1_000_000
        except OSError as error:
            variable = "LOG_DIR" if error.filename and str(self.logs) in str(error.filename) else "ZHIYUN_HOME"
            where = self.logs if variable == "LOG_DIR" else self.home
            raise HomeUnusable(
                f"{variable}={where} cannot be written to: {error.strerror}. Nothing was started."
            ) from None
        if free < _LEAST_FREE_MB:
            raise HomeUnusable(
                f"ZHIYUN_HOME={self.home} has only {free} MB free and needs {_LEAST_FREE_MB} MB; make room there, "
                "or set ZHIYUN_HOME to a folder on another disk. Nothing was started."
            )

    def lock(self) -> int:
        """Take ZHIYUN_HOME for this process, until it ends. Raises AlreadyRunning."""
        descriptor = os.open(self.run / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise AlreadyRunning from None
        return descriptor

    def is_running(self) -> bool:
        """Whether a `zhiyun up` has this ZHIYUN_HOME."""
        if not (self.run / "lock").exists():
            return False
        try:
            os.close(self.lock())
        except AlreadyRunning:
            return True
        except OSError:
            return self.supervisor() is not None
        return False

    def state(self) -> dict[str, Any]:
        """What the last `zhiyun up` wrote down; empty if nothing can be read."""
        try:
            found = json.loads(self.state_file.read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def write_state(self, state: dict[str, Any]) -> None:
        """Replace the record; whoever reads sees the old one or the new one."""
        scratch = self.state_file.with_suffix(".new")
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
            json.dump(state, stream, indent=1)
        scratch.replace(self.state_file)

    def supervisor(self) -> Identity | None:
        """The process of the last `zhiyun up`, if it still runs."""
        state = self.state()
        try:
            identity = Identity(int(state["pid"]), float(state["process_started"]))
        except (KeyError, TypeError, ValueError):
            return None
        return identity if identity.process() else None

    def leaders(self) -> list[Identity]:
        """The processes that the last `zhiyun up` started."""
        found: list[Identity] = []
        for service in self.state().get("services", {}).values():
            found += [Identity(int(pid), float(started)) for pid, started in service.get("leaders", [])]
        return found


def layout() -> Layout:
    """The folders of the ZHIYUN_HOME that the settings name."""
    home, logs = load(StackSettings).home, load(LogSettings)
    folder = Path(logs.dir).expanduser().absolute() if "dir" in logs.model_fields_set else home / "logs"
    return Layout(home, folder)
