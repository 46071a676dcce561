"""What a backup or restore may raise: each one sentence that a person can act on. To tell them needs no store's client."""

from knowledge.database import AnotherWriter, DatabaseUnavailable
from knowledge.models.embedding import EmbeddingModelUnavailable
from knowledge.models.registry import ModelMissing
from knowledge.releases.vector_store import VectorStoreUnavailable
from objects.store import ObjectStoreError
from orchestration.backups.recovery_point import BackupError
from orchestration.capacity.guard import NoRoom
from orchestration.exclusion import Busy
from zhiyun.settings import SettingsError

EXPECTED = (
    NoRoom,
    BackupError, Busy, AnotherWriter, DatabaseUnavailable, ObjectStoreError, SettingsError, VectorStoreUnavailable,
    ModelMissing, EmbeddingModelUnavailable,
)  # fmt: skip
