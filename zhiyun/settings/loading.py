"""Settings are read from the environment, then from a `.env` file in the working directory, then from their defaults.
What is wrong with one is a line that names the variable."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from zhiyun.settings.alerts import AlertSettings
from zhiyun.settings.backups import BackupSettings
from zhiyun.settings.cache import RedisSettings
from zhiyun.settings.capacity import CapacitySettings
from zhiyun.settings.database import DatabaseSettings
from zhiyun.settings.embedding import EmbeddingSettings
from zhiyun.settings.fields import extra, variable_name
from zhiyun.settings.knowledge import KnowledgeSettings
from zhiyun.settings.language_model import LlmSettings
from zhiyun.settings.logs import LogSettings
from zhiyun.settings.maintenance import MaintenanceSettings
from zhiyun.settings.retrieval import RetrievalSettings
from zhiyun.settings.s3 import S3Settings
from zhiyun.settings.serving import ServingSettings
from zhiyun.settings.stack import StackSettings
from zhiyun.settings.vectors import QdrantSettings

_PASSWORD = re.compile(r"(://[^\s:/@]*:)[^\s@]+@")


class SettingsError(ValueError):
    """A setting has a value that cannot be used. The message is one line and names the variable."""


Settings = TypeVar("Settings", bound=BaseSettings)

ALL: tuple[type[BaseSettings], ...] = (
    StackSettings, ServingSettings, KnowledgeSettings, EmbeddingSettings, RetrievalSettings, LlmSettings,
    DatabaseSettings, RedisSettings, QdrantSettings, BackupSettings, S3Settings, MaintenanceSettings, CapacitySettings,
    AlertSettings,
    LogSettings,
)  # fmt: skip


def load(model: type[Settings]) -> Settings:
    """The settings of one concern. Raises SettingsError with one line that names the variable and the value."""
    try:
        return model()
    except ValidationError as error:
        raise SettingsError(_sentences(model, error)[0]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(_unreadable(error)) from None


def check_all() -> None:
    """Read every setting once, so that a wrong value stops the start. Raises SettingsError with the first problem."""
    for problem in problems():
        raise SettingsError(problem)


def problems() -> list[str]:
    """Everything that is wrong with the settings, one line each."""
    found: list[str] = []
    loaded: dict[type[BaseSettings], BaseSettings] = {}
    for model in ALL:
        try:
            loaded[model] = model()
        except ValidationError as error:
            found += _sentences(model, error)
        except (OSError, UnicodeDecodeError) as error:
            return [_unreadable(error)]
    llm, database, disks = loaded.get(LlmSettings), loaded.get(DatabaseSettings), loaded.get(CapacitySettings)
    if isinstance(llm, LlmSettings) and llm.base_url and not llm.model:
        found.append("LLM_MODEL: must be set when LLM_BASE_URL is, for example LLM_MODEL=qwen2.5")
    if isinstance(database, DatabaseSettings) and database.pool_min > database.pool_max:
        found.append(f"DATABASE_POOL_MIN={database.pool_min}: is more than DATABASE_POOL_MAX={database.pool_max}")
    if isinstance(disks, CapacitySettings) and not (
        disks.warning_percent < disks.serious_percent < disks.critical_percent
    ):
        found.append(
            f"CAPACITY_WARNING_PERCENT={disks.warning_percent:g}: must be less than CAPACITY_SERIOUS_PERCENT="
            f"{disks.serious_percent:g}, and that less than CAPACITY_CRITICAL_PERCENT={disks.critical_percent:g}"
        )
    return found


def _unreadable(error: OSError | UnicodeDecodeError) -> str:
    why = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
    return f"{Path('.env').absolute()} cannot be read: {why}"


def _sentences(model: type[BaseSettings], error: ValidationError) -> list[str]:
    """One line for each wrong value: the variable, the value unless it is secret, and why."""
    found: list[str] = []
    for one in error.errors():
        field = str(one["loc"][0])
        reason = str(one["msg"]).removeprefix("Value error, ")
        secret = extra(model, field.lower()).get("secret")
        value = "" if secret else "=" + _PASSWORD.sub(r"\1***@", repr(one["input"]))
        found.append(f"{variable_name(model, field)}{value}: {reason[:1].lower() + reason[1:]}")
    return found
