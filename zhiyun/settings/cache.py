"""Redis, which the chat processes share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings

from zhiyun.settings.fields import config, scheme


class RedisSettings(BaseSettings):
    """Redis: short-lived shared state of the chat processes. Losing it loses no knowledge and no message."""

    model_config = config("REDIS_")

    url: Annotated[str, scheme("redis", "rediss", "unix")] = Field(
        default="redis://127.0.0.1:6379/0",
        description="Where Redis is. `zhiyun up` sets it for the services it starts.",
    )
    pool_max: Annotated[int, Field(ge=1)] = Field(
        default=50,
        description="Connections that each chat process opens at most.",
        json_schema_extra={"unit": "connections"},
    )
    pool_idle: Annotated[int, Field(ge=0)] = Field(
        default=10, description="Idle connections that are kept.", json_schema_extra={"unit": "connections"}
    )
    connect_timeout: Annotated[float, Field(gt=0)] = Field(
        default=5, description="How long opening a connection may take.", json_schema_extra={"unit": "seconds"}
    )
