"""Every environment variable of the platform, once: its type, default, unit and meaning. A module for each concern.

This package is the one place in the house that re-exports: whoever needs a setting names the concern
(`from zhiyun.settings import BackupSettings, load`) and does not have to know in which module it stands. It has more modules
than other folders, since there are as many concerns: each is found by the word that its variables begin with.
"""

from zhiyun.settings.alerts import AlertSettings
from zhiyun.settings.backups import BackupSettings
from zhiyun.settings.cache import RedisSettings
from zhiyun.settings.capacity import CapacitySettings
from zhiyun.settings.database import DatabaseSettings
from zhiyun.settings.embedding import EmbeddingSettings
from zhiyun.settings.fields import variable_name
from zhiyun.settings.knowledge import KnowledgeSettings
from zhiyun.settings.language_model import LlmSettings
from zhiyun.settings.loading import ALL, SettingsError, check_all, load, problems
from zhiyun.settings.logs import LogSettings
from zhiyun.settings.maintenance import MaintenanceSettings
from zhiyun.settings.page import configuration_markdown
from zhiyun.settings.retrieval import RetrievalSettings
from zhiyun.settings.s3 import S3Settings
from zhiyun.settings.serving import ServingSettings
from zhiyun.settings.stack import StackSettings
from zhiyun.settings.vectors import QdrantSettings

__all__ = [
    "ALL",
    "AlertSettings",
    "BackupSettings",
    "CapacitySettings",
    "DatabaseSettings",
    "EmbeddingSettings",
    "KnowledgeSettings",
    "LlmSettings",
    "LogSettings",
    "MaintenanceSettings",
    "QdrantSettings",
    "RedisSettings",
    "RetrievalSettings",
    "S3Settings",
    "ServingSettings",
    "SettingsError",
    "StackSettings",
    "check_all",
    "configuration_markdown",
    "load",
    "problems",
    "variable_name",
]
