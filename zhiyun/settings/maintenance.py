"""What is done and looked at by the clock, and its limits."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings

from zhiyun.settings.fields import config


class MaintenanceSettings(BaseSettings):
    """What the clock does for the stores: vacuum, indexes, reports, health, history."""

    model_config = config("MAINTENANCE_")

    nightly_cron: str = Field(
        default="0 5 * * *",
        description="When tables are vacuumed, slow queries and indexes reported, collections and Dagster's history tidied. "
        "In `BACKUP_TIMEZONE`; after the backup.",
        json_schema_extra={"unit": "cron"},
    )
    weekly_cron: str = Field(
        default="0 6 * * 0",
        description="When indexes are looked at and rebuilt. In `BACKUP_TIMEZONE`.",
        json_schema_extra={"unit": "cron"},
    )
    health_cron: str = Field(
        default="*/10 * * * *",
        description="When the database's health is looked at.",
        json_schema_extra={"unit": "cron"},
    )
    lock_timeout: Annotated[float, Field(gt=0)] = Field(
        default=3,
        description="How long maintenance waits for a table; then it leaves it for the next time.",
        json_schema_extra={"unit": "seconds"},
    )
    snapshot_timeout: Annotated[float, Field(gt=0)] = Field(
        default=60,
        description="How long building an index concurrently waits for older transactions. It blocks nobody meanwhile.",
        json_schema_extra={"unit": "seconds"},
    )
    vacuum_minutes: Annotated[float, Field(gt=0)] = Field(
        default=60, description="What vacuum may take in one night.", json_schema_extra={"unit": "minutes"}
    )
    vacuum_scale: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.1,
        description="Dead or inserted rows, as a share of a table, from which it is vacuumed (and 50 rows).",
    )
    analyze_scale: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.05,
        description="Changed rows, as a share of a table, from which its statistics are renewed (and 50 rows).",
    )
    freeze_share: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.7,
        description="A table as old as this share of `autovacuum_freeze_max_age` is frozen at night, before PostgreSQL "
        "has to by day.",
    )
    index_minutes: Annotated[float, Field(gt=0)] = Field(
        default=60, description="What rebuilding indexes may take in one run.", json_schema_extra={"unit": "minutes"}
    )
    index_bloat: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.3, description="An index is rebuilt when this share of it would go."
    )
    index_min_mb: Annotated[float, Field(ge=0)] = Field(
        default=4, description="Smaller indexes are left as they are.", json_schema_extra={"unit": "MiB"}
    )
    unseen_disk_mb: Annotated[float, Field(ge=0)] = Field(
        default=1024,
        description="What is taken to be free on the database's disk where it cannot be seen from here. An index is rebuilt "
        "only when twice its size is free.",
        json_schema_extra={"unit": "MiB"},
    )
    amcheck_minutes: Annotated[float, Field(ge=0)] = Field(
        default=5,
        description="What checking indexes for damage may take in one run; those checked longest ago come first.",
        json_schema_extra={"unit": "minutes"},
    )
    declared_indexes: str = Field(
        default="",
        description="Indexes that this installation wants beyond the migrations': `CREATE INDEX name ON schema.table (...)`, "
        "separated by semicolons. A missing one is created concurrently.",
    )
    unused_days: Annotated[float, Field(ge=0)] = Field(
        default=30,
        description="An index without a scan in so long is reported as unused; not before statistics are as old.",
        json_schema_extra={"unit": "days"},
    )
    large_table_rows: Annotated[int, Field(ge=0)] = Field(
        default=10_000,
        description="From this size on a missing index is reported.",
        json_schema_extra={"unit": "rows"},
    )
    slow_query_ms: Annotated[float, Field(gt=0)] = Field(
        default=500, description="A statement that takes as long on average is slow.", json_schema_extra={"unit": "ms"}
    )
    statements_days: Annotated[int, Field(ge=8)] = Field(
        default=35, description="How long figures of statements are kept.", json_schema_extra={"unit": "days"}
    )
    wraparound_warn: Annotated[int, Field(ge=1)] = Field(
        default=500_000_000,
        description="Age of the oldest transaction number that is a warning; four times as much is an error, and at about "
        "2,100 million PostgreSQL stops accepting writes.",
        json_schema_extra={"unit": "transactions"},
    )
    idle_transaction_minutes: Annotated[float, Field(gt=0)] = Field(
        default=10,
        description="A transaction that does nothing for so long is reported; six times as long is an error.",
        json_schema_extra={"unit": "minutes"},
    )
    blocked_seconds: Annotated[float, Field(gt=0)] = Field(
        default=30,
        description="A statement that waits for another's lock so long is reported; ten times as long is an error.",
        json_schema_extra={"unit": "seconds"},
    )
    slot_mb: Annotated[float, Field(gt=0)] = Field(
        default=1024,
        description="A replication slot that nobody reads and that keeps so much log is reported.",
        json_schema_extra={"unit": "MiB"},
    )
    sequence_share: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.8, description="A sequence that has used up this share of its numbers is reported; 95 % is an error."
    )
    connections_share: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.8, description="As much of `max_connections` in use is reported; 95 % is an error."
    )
    history_days: Annotated[int, Field(ge=1)] = Field(
        default=90,
        description="Dagster's runs with their events and logs, and ticks, are kept for so long, and never less than "
        "`BACKUP_RETENTION_DAYS`.",
        json_schema_extra={"unit": "days"},
    )
    history_batch: Annotated[int, Field(ge=1)] = Field(
        default=50,
        description="Runs that are looked up at once while history is deleted.",
        json_schema_extra={"unit": "runs"},
    )
    history_minutes: Annotated[float, Field(gt=0)] = Field(
        default=15, description="What deleting history may take in one night.", json_schema_extra={"unit": "minutes"}
    )
