"""Recovery points and restores."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings

from zhiyun.settings.fields import config


class BackupSettings(BaseSettings):
    """Recovery points: where they are kept, for how long, and what is expected of them."""

    model_config = config("BACKUP_")

    stores: str = Field(
        default="",
        description="Where recovery points are kept: folders or `s3://bucket/prefix`, separated by commas; `name=place` "
        "gives a store a name. The first is written first; the others are copies, each verified. Empty: `backups` below "
        "`ZHIYUN_HOME`. A place belongs to one installation.",
    )
    files: str = Field(
        default="",
        description="The file store that is backed up, written like `BACKUP_STORES`. Empty: the folders of `KNOWLEDGE_SOURCES`.",
    )
    key_file: str = Field(
        default="",
        description="A file with an age identity (`AGE-SECRET-KEY-1…`, as `zhiyun backup key` or `age-keygen` make it). "
        "With it recovery points are encrypted. Keep a copy away from the stores: without it they cannot be read.",
    )
    key: str = Field(
        default="", description="The identity itself, instead of `BACKUP_KEY_FILE`.", json_schema_extra={"secret": True}
    )
    cron: str = Field(
        default="30 2 * * *", description="When the nightly point is made.", json_schema_extra={"unit": "cron"}
    )
    drill_cron: str = Field(
        default="0 4 * * 0", description="When the newest verified point is restored for trial.",
        json_schema_extra={"unit": "cron"},
    )  # fmt: skip
    timezone: str = Field(default="Asia/Shanghai", description="The time zone of the two, and of what a night is.")
    retention_days: Annotated[int, Field(ge=1)] = Field(
        default=30,
        description="A point is kept for so long, counted back from the newest verified one.",
        json_schema_extra={"unit": "days"},
    )
    keep_minimum: Annotated[int, Field(ge=1)] = Field(
        default=3, description="Verified points that are always kept.", json_schema_extra={"unit": "points"}
    )
    keep_weekly: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="Beyond that, the last verified point of each of so many weeks.",
        json_schema_extra={"unit": "weeks"},
    )
    keep_monthly: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="Beyond that, the last verified point of each of so many months.",
        json_schema_extra={"unit": "months"},
    )
    node_snapshot_days: Annotated[int, Field(ge=1)] = Field(
        default=7,
        description="Snapshots that lie on the vector store's own disk longer are deleted with what has expired.",
        json_schema_extra={"unit": "days"},
    )
    rpo_hours: Annotated[float, Field(gt=0)] = Field(
        default=26,
        description="The newest verified point may be so old; beyond it there is an alert.",
        json_schema_extra={"unit": "hours"},
    )
    rto_minutes: Annotated[float, Field(gt=0)] = Field(
        default=60,
        description="A trial restore may take so long; beyond it the check fails.",
        json_schema_extra={"unit": "minutes"},
    )
    before_recover: str = Field(
        default="", description="A command that `zhiyun recover` runs first. If it fails, nothing is touched."
    )
    after_recover: str = Field(
        default="", description="A command that `zhiyun recover` runs once all is restored and verified."
    )
