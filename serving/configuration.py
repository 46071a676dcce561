"""The settings that the chat service reads, together."""

from __future__ import annotations

from dataclasses import dataclass

from zhiyun.settings import (
    AlertSettings,
    BackupSettings,
    CapacitySettings,
    DatabaseSettings,
    EmbeddingSettings,
    KnowledgeSettings,
    LlmSettings,
    LogSettings,
    QdrantSettings,
    RedisSettings,
    RetrievalSettings,
    ServingSettings,
    StackSettings,
    check_all,
    load,
)


@dataclass(frozen=True, slots=True)
class Configuration:
    serving: ServingSettings
    database: DatabaseSettings
    redis: RedisSettings
    qdrant: QdrantSettings
    knowledge: KnowledgeSettings
    retrieval: RetrievalSettings
    embedding: EmbeddingSettings
    llm: LlmSettings
    log: LogSettings
    backup: BackupSettings
    capacity: CapacitySettings
    alert: AlertSettings
    dagster_database_url: str


def read() -> Configuration:
    """The configuration from the environment. Raises SettingsError with one line that names the variable."""
    check_all()
    return Configuration(
        serving=load(ServingSettings),
        database=load(DatabaseSettings),
        redis=load(RedisSettings),
        qdrant=load(QdrantSettings),
        knowledge=load(KnowledgeSettings),
        retrieval=load(RetrievalSettings),
        embedding=load(EmbeddingSettings),
        llm=load(LlmSettings),
        log=load(LogSettings),
        backup=load(BackupSettings),
        capacity=load(CapacitySettings),
        alert=load(AlertSettings),
        dagster_database_url=load(StackSettings).dagster_database_url,
    )
