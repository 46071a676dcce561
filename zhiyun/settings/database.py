"""PostgreSQL, where the platform's record is."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings

from zhiyun.settings.fields import config, scheme


class DatabaseSettings(BaseSettings):
    """PostgreSQL: the catalogue of the knowledge base, conversations, and the record of releases."""

    model_config = config("DATABASE_")

    url: Annotated[str, scheme("postgresql", "postgres")] = Field(
        default="postgresql://zhiyun@127.0.0.1:5432/zhiyun",
        description="Where the platform's database is. `zhiyun up` sets it for the services it starts.",
    )
    pool_min: Annotated[int, Field(ge=1)] = Field(
        default=10,
        description="Connections that each chat process keeps open.",
        json_schema_extra={"unit": "connections"},
    )
    pool_max: Annotated[int, Field(ge=1)] = Field(
        default=100,
        description="Connections that each chat process opens at most.",
        json_schema_extra={"unit": "connections"},
    )
    connect_timeout: Annotated[float, Field(gt=0)] = Field(
        default=30, description="How long opening a connection may take.", json_schema_extra={"unit": "seconds"}
    )
    idle_timeout: Annotated[float, Field(gt=0)] = Field(
        default=300,
        description="An unused connection above the minimum is closed after this.",
        json_schema_extra={"unit": "seconds"},
    )
    admin_url: Annotated[str, scheme("postgresql", "postgres")] = Field(
        default="",
        description="The same database as a role that may create databases and read everything: for backups, restores and "
        "maintenance. Empty: `DATABASE_URL`; what that role may not do is then left out, and said. `zhiyun up` sets it.",
        json_schema_extra={"secret": True},
    )
    programs: str = Field(
        default="",
        description="The folder of `pg_dump`, `pg_restore` and `pg_dumpall`, of the server's own major version. "
        "Empty: they are looked for where systems and packages put them.",
    )

    @property
    def admin(self) -> str:
        """The URL that backups, restores and maintenance use."""
        return self.admin_url or self.url
