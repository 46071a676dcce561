"""The embedded stack, and Dagster in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings

from zhiyun.settings.fields import Port, config, scheme


class StackSettings(BaseSettings):
    """The embedded stack: everything on one machine, started by `zhiyun up`."""

    model_config = config("")

    zhiyun_home: str = Field(default=".zhiyun", description="Where the embedded stack keeps all data and logs.")
    dagster_host: str = Field(
        default="127.0.0.1", description="The address of the Dagster UI. It has no login: keep it on the loopback."
    )
    dagster_port: Port = Field(default=3000, description="The port of the Dagster UI; like `SERVING_PORT`.")
    dagster_database_url: Annotated[str, scheme("postgresql", "postgres")] = Field(
        default="postgresql://zhiyun@127.0.0.1:5432/dagster",
        description="The database of Dagster's own storage. `zhiyun up` sets it for the services it starts.",
    )
    qdrant_port: Port = Field(default=6333, description="The port of the embedded vector store; like `SERVING_PORT`.")

    @property
    def home(self) -> Path:
        """`ZHIYUN_HOME` as an absolute path."""
        return Path(self.zhiyun_home).expanduser().absolute()
