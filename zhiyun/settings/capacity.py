"""Limits of disks, memory and connections."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings

from zhiyun.settings.fields import config


class CapacitySettings(BaseSettings):
    """Disks, memory and connections: what is measured, and when it is too much (operators' manual, part 1, section 3)."""

    model_config = config("CAPACITY_")

    volumes: str = Field(
        default="",
        description="Folders whose disks are watched: `name=folder`, separated by commas. Empty: the manual's four, "
        "`database=/var/lib/postgresql,vectors=/var/lib/qdrant,files=/var/lib/minio,logs=/var/log`, or where the embedded "
        "stack keeps the same below `ZHIYUN_HOME`.",
    )
    warning_percent: Annotated[float, Field(gt=0, lt=100)] = Field(
        default=70, description="A disk that is fuller is a warning.", json_schema_extra={"unit": "percent"}
    )
    serious_percent: Annotated[float, Field(gt=0, lt=100)] = Field(
        default=85, description="A disk that is fuller is serious.", json_schema_extra={"unit": "percent"}
    )
    critical_percent: Annotated[float, Field(gt=0, lt=100)] = Field(
        default=95,
        description="On a disk that is fuller, ingestion and backups do not start. The chat goes on.",
        json_schema_extra={"unit": "percent"},
    )
    full_days: Annotated[float, Field(ge=0)] = Field(
        default=14,
        description="A disk that will be full sooner, if it goes on filling as it did, is a warning.",
        json_schema_extra={"unit": "days"},
    )
    trend_days: Annotated[float, Field(gt=0, le=90)] = Field(
        default=14, description="How far back that is judged from.", json_schema_extra={"unit": "days"}
    )
    keep_days: Annotated[int, Field(ge=1)] = Field(
        default=90, description="Samples are kept for so long.", json_schema_extra={"unit": "days"}
    )
    memory_percent: Annotated[float, Field(gt=0, lt=100)] = Field(
        default=80,
        description="A service that uses more of its memory limit is a warning.",
        json_schema_extra={"unit": "percent"},
    )
    memory_web_gb: Annotated[float, Field(gt=0)] = Field(
        default=2,
        description="The chat's memory limit, where its container sets none.",
        json_schema_extra={"unit": "GiB"},
    )
    memory_worker_gb: Annotated[float, Field(gt=0)] = Field(
        default=4, description="The same of Dagster's processes and runs.", json_schema_extra={"unit": "GiB"}
    )
    memory_redis_gb: Annotated[float, Field(gt=0)] = Field(
        default=2, description="The same of Redis.", json_schema_extra={"unit": "GiB"}
    )
    memory_postgres_gb: Annotated[float, Field(gt=0)] = Field(
        default=4, description="The same of PostgreSQL.", json_schema_extra={"unit": "GiB"}
    )
    connections_percent: Annotated[float, Field(gt=0, lt=100)] = Field(
        default=80,
        description="A server with more of its connections taken is a warning.",
        json_schema_extra={"unit": "percent"},
    )
