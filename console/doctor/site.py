"""What is being looked at: the services that the settings name, or those of a ZHIYUN_HOME, running or not."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from embedded.attach import last_known
from embedded.layout import Layout
from embedded.services.ports import reachable
from zhiyun.settings import (
    DatabaseSettings,
    LogSettings,
    QdrantSettings,
    RedisSettings,
    ServingSettings,
    SettingsError,
    StackSettings,
    load,
)

_Value = TypeVar("_Value")

# The names of Debian's units: what an operator starts on a server of its own.
_UNITS = {"PostgreSQL": "postgresql", "Redis": "redis-server", "Qdrant": "qdrant"}


@dataclass(frozen=True)
class Site:
    """One installation. `embedded`: its services are those of `place`; `running` is then whether they run."""

    place: Layout
    embedded: bool
    running: bool
    state: dict[str, Any]

    @property
    def reachable(self) -> bool:
        """Whether there is anything to connect to: a stack that is only just starting has not all its services."""
        return not self.embedded or (self.running and self.state.get("phase") == "ready" and bool(self.environment()))

    @property
    def owner(self) -> str:
        """The user whose ZHIYUN_HOME it is, where this is another one, who may not see what is in it; empty otherwise."""
        if not self.embedded or os.geteuid() == 0:
            return ""
        for folder in (self.place.home, *self.place.home.parents):
            try:
                owner = folder.stat().st_uid
            except PermissionError:  # it lies in a folder that only another user enters: whose is that?
                continue
            except OSError:
                return ""
            return "" if owner == os.geteuid() else _user(owner)
        return ""

    def environment(self) -> dict[str, str]:
        """Where the stores of the running stack are; nothing where the settings say it."""
        return _last_known(self.place) if self.embedded and self.running else {}

    def chat(self) -> str:
        """The chat's address."""
        serving = load(ServingSettings)
        return self.state.get("urls", {}).get("chat") or f"http://{reachable(serving.host)}:{serving.port}"

    def dagster(self) -> str:
        """The address of Dagster's UI."""
        stack = load(StackSettings)
        return (
            self.state.get("urls", {}).get("dagster") or f"http://{reachable(stack.dagster_host)}:{stack.dagster_port}"
        )

    def start(self, service: str) -> str:
        """The command that starts one of the stores again."""
        if self.embedded:
            return "zhiyun down; zhiyun up"
        return f"systemctl restart {_UNITS.get(service, service)}"

    def log(self, service: str) -> Path | None:
        """The log of one of the stores that the running stack starts again by itself; None for others."""
        return self.place.logs / f"{service}.log" if self.embedded and self.running else None


def find() -> Site:
    """The installation that the environment describes, however wrong it is."""
    stack = attempt(lambda: load(StackSettings))
    home = stack.home if stack else Path(os.environ.get("ZHIYUN_HOME") or ".zhiyun").expanduser().absolute()
    logs = attempt(lambda: load(LogSettings))
    apart = logs is not None and "dir" in logs.model_fields_set
    place = Layout(home, Path(logs.dir).expanduser().absolute() if logs and apart else home / "logs")
    own = _last_known(place)
    named = (
        _named(DatabaseSettings, own.get("DATABASE_URL")),
        _named(RedisSettings, own.get("REDIS_URL")),
        _named(QdrantSettings, own.get("QDRANT_URL")),
    )
    embedded = not any(named)
    running = embedded and bool(attempt(place.is_running, OSError))
    return Site(place, embedded, running, place.state() if running else {})


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _last_known(place: Layout) -> dict[str, str]:
    """Where its stores are; nothing where it does not tell. Doctor makes no passwords where there are none."""
    if not attempt((place.home / "passwords.json").exists, OSError):
        return {}
    return attempt(lambda: last_known(place), OSError, ValueError) or {}


def attempt(call: Callable[[], _Value], *expected: type[Exception]) -> _Value | None:
    """What the call gives, or None where a setting is wrong (or what is expected went wrong)."""
    try:
        return call()
    except (SettingsError, *expected):
        return None


def _named(model: type[DatabaseSettings | RedisSettings | QdrantSettings], own: str | None) -> bool:
    """Whether the settings name a service other than that of ZHIYUN_HOME, which `zhiyun env` names."""
    settings = attempt(lambda: load(model))
    # A value that cannot be used was meant all the same.
    return settings is None or ("url" in settings.model_fields_set and settings.url != own)
