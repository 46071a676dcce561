"""What recovery points are made of, and where they go: everything that the settings say, put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from objects.places import open_store, parse_places
from objects.store import ObjectStore
from orchestration.backups.progress import Logged, Progress
from orchestration.backups.recovery_point import BackupError
from orchestration.backups.streams.encryption import Keys
from zhiyun.settings import (
    BackupSettings,
    DatabaseSettings,
    KnowledgeSettings,
    QdrantSettings,
    RedisSettings,
    S3Settings,
    StackSettings,
    load,
)

if TYPE_CHECKING:
    from knowledge.database import Connection
    from knowledge.releases.collection import Collections


@dataclass(frozen=True)
class Installation:
    """One platform with its stores of recovery points; the first is the primary, the others are copies."""

    stores: Sequence[ObjectStore]
    keys: Keys | None
    backup: BackupSettings
    database: DatabaseSettings
    dagster_url: str
    qdrant: QdrantSettings
    redis: RedisSettings
    knowledge: KnowledgeSettings
    s3: S3Settings
    progress: Progress = field(default_factory=Logged)

    @property
    def primary(self) -> ObjectStore:
        return self.stores[0]

    @property
    def suffix(self) -> str:
        """What the keys of objects end in that are encrypted."""
        return ".age" if self.keys else ""

    def store(self, name: str | None) -> ObjectStore:
        """The store of this name; the primary without one. Raises BackupError."""
        if not name:
            return self.primary
        for store in self.stores:
            if store.name == name:
                return store
        known = ", ".join(store.name for store in self.stores)
        raise BackupError(f"BACKUP_STORES has no store named {name!r}; it has {known}.")

    @property
    def live_database(self) -> str:
        """The name of the platform's database."""
        return self.name_of("platform")

    def name_of(self, role: str) -> str:
        """The name of the platform's database, or of Dagster's."""
        from psycopg import conninfo

        url = self.database.admin if role == "platform" else self.dagster_url
        return str(conninfo.conninfo_to_dict(url)["dbname"])

    def url(self, database: str) -> str:
        """Another database of the platform's server, as the role of backups."""
        from psycopg import conninfo

        return conninfo.make_conninfo(self.database.admin, dbname=database)

    def catalog(self, purpose: str) -> Connection:
        """A connection to the platform's database as the role of backups. Raises DatabaseUnavailable."""
        return self.connect(self.live_database, purpose)

    def connect(self, database: str, purpose: str) -> Connection:
        """The same for another database of its server."""
        from knowledge.database import connect

        return connect(self.database.model_copy(update={"url": self.url(database)}), f"zhiyun {purpose}")

    def collections(self) -> Collections:
        """The vector store as releases see it."""
        from knowledge.releases.collection import Collections

        return Collections(self.qdrant)


def installation(progress: Progress | None = None, stores: str | None = None) -> Installation:
    """The installation that the settings describe; `stores` takes the place of BACKUP_STORES.

    Raises SettingsError or BackupError with one sentence. Nothing is connected yet.
    """
    backup, s3, stack = load(BackupSettings), load(S3Settings), load(StackSettings)
    places = parse_places(stores or backup.stores, "BACKUP_STORES", str(stack.home / "backups"))
    return Installation(
        stores=[open_store(place, s3, "BACKUP_STORES") for place in places],
        keys=Keys.load(backup),
        backup=backup,
        database=load(DatabaseSettings),
        dagster_url=stack.dagster_database_url,
        qdrant=load(QdrantSettings),
        redis=load(RedisSettings),
        knowledge=load(KnowledgeSettings),
        s3=s3,
        progress=progress or Logged(),
    )
