"""Log files."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings

from zhiyun.settings.fields import config


class LogSettings(BaseSettings):
    """Logs: `app.log`, `access.log` and `error.log` of the chat (operators' manual, part 1, section 1.3)."""

    model_config = config("LOG_")

    dir: str = Field(
        default="/var/log/zhiyun",
        description="The folder of the log files. `zhiyun up` uses `logs` below `ZHIYUN_HOME` unless this is set.",
    )
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = Field(
        default="INFO", description="The least level that is written."
    )
