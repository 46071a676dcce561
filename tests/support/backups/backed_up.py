"""A platform that is small and has everything a recovery point is made of, for tests that break the making of one."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from embedded.services import postgres
from orchestration.backups.installation import Installation, installation
from orchestration.backups.vectors.node import Node
from tests.conftest import migrate
from tests.support.knowledge_base import KnowledgeBase, failures

ALIAS = "kb"
_DOCUMENTS = {
    "退款.md": "# 退款\n\n退款在三个工作日内原路退回。超过七天的订单需要人工审核，请提供订单号。\n",
    "发票.md": "# 发票\n\n电子发票在订单完成后开具，可以在“我的订单”里下载。抬头错了可以重开一次。\n",
    "api/limits.md": "# Limits\n\nEach key may send 600 requests a minute; beyond that the answer is HTTP 429.\n",
}
_GOLDEN = [("退款要几天", "退款.md"), ("怎么开发票", "发票.md"), ("how many requests a minute", "api/limits.md")]
# What does not shrink, so that a dump is some MB in the store too; and a table such as Dagster has.
_BULK = """
CREATE TABLE bulk AS SELECT i AS id, string_agg(sha512((i * 1000 + j)::text::bytea), ''::bytea) AS noise
    FROM generate_series(1, {rows}) i, generate_series(1, 160) j GROUP BY i;
ALTER TABLE bulk ADD PRIMARY KEY (id);
"""


@dataclass
class Platform:
    """Where its parts are, and the environment that an operator would give it."""

    home: Path
    cluster: postgres.Cluster
    database: str
    dagster: str
    qdrant_url: str
    redis_url: str = ""
    extra: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def documents(self) -> Path:
        return self.home / "documents"

    def environment(self, **changes: str) -> dict[str, str]:
        """Every setting that a backup or restore looks at."""
        return {
            "ZHIYUN_HOME": str(self.home / "zhiyun"),
            "DATABASE_URL": self.cluster.url(self.database),
            "DATABASE_ADMIN_URL": self.cluster.url(self.database, "postgres"),
            "DAGSTER_DATABASE_URL": self.cluster.url(self.dagster, "postgres"),
            "DATABASE_CONNECT_TIMEOUT": "10",
            "DATABASE_PROGRAMS": "",
            "QDRANT_URL": self.qdrant_url,
            "QDRANT_COLLECTION": ALIAS,
            "QDRANT_API_KEY": "",
            "REDIS_URL": self.redis_url or "redis://127.0.0.1:1/0",
            "KNOWLEDGE_SOURCES": f"docs={self.documents}",
            "KNOWLEDGE_GOLDEN_SET": str(self.home / "golden.jsonl"),
            "EMBEDDING_MODEL": "corpus",
            "BACKUP_STORES": str(self.home / "store"),
            "BACKUP_FILES": "",
            "BACKUP_KEY": "",
            "BACKUP_KEY_FILE": "",
            "CAPACITY_CRITICAL_PERCENT": "99.9",  # how full this machine is decides nothing
            **self.extra,
            **changes,
        }

    def installation(self, **changes: str) -> Installation:
        """What the settings describe, in this process."""
        with self.settings(**changes):
            return installation()

    @contextmanager
    def settings(self, **changes: str) -> Iterator[None]:
        """This process has the platform's environment for as long as the block lasts."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment(**changes).items():
                patch.setenv(name, value)
            yield

    def fill(self, rows: int = 300) -> None:
        """Tables, documents, a live release, and some 10 KB of noise for each row."""
        migrate(self.cluster.url(self.database))
        for path, text in _DOCUMENTS.items():
            file = self.documents / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        (self.documents / "picture.bin").write_bytes(random.Random(7).randbytes(300_000))
        lines = [f'{{"question": "{question}", "document": "docs/{path}"}}' for question, path in _GOLDEN]
        (self.home / "golden.jsonl").write_text("\n".join([*lines, ""]), encoding="utf-8")
        for database, count in ((self.database, rows), (self.dagster, rows // 10)):
            with psycopg.connect(self.cluster.url(database), autocommit=True) as connection:
                connection.execute(_BULK.format(rows=count).encode())
        with self.settings():
            (self.home / "zhiyun").mkdir(exist_ok=True)
            base = KnowledgeBase(self.documents, self.cluster.url(self.database), self.qdrant_url, ALIAS)
            result = base.ingest()
            assert result.success, failures(result)

    def state(self) -> dict[str, object]:
        """What a restore that was refused must leave as it was: databases, aliases, collections, files."""
        with psycopg.connect(self.cluster.url("postgres", "postgres"), autocommit=True) as connection:
            databases = connection.execute("SELECT datname, oid FROM pg_database ORDER BY 1").fetchall()
        with Node(self.installation().qdrant) as node:
            names = node.names()
            return {
                "databases": databases,
                "aliases": node.aliases(),
                "collections": {name: node.count(name) for name in names},
                "snapshots": snapshots(node),
                "files": hashes(self.documents),
            }


def snapshots(node: Node) -> list[str]:
    """Snapshots that lie on the node itself."""
    found: list[str] = []
    for name in node.names():
        found += [
            each.name for each in node.small("list snapshots", lambda client, name=name: client.list_snapshots(name))
        ]
    found += [each.name for each in node.small("list snapshots", lambda client: client.list_full_snapshots())]
    return found


def hashes(folder: Path) -> dict[str, tuple[str, int]]:
    """Content and time of every file in a folder."""
    return {
        str(path.relative_to(folder)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def seed(variable: str) -> int:
    """A number for a test's chances: always the same one in CI, another each time elsewhere, or what the variable says.

    The workers of one run draw the same one: they have to find the same tests.
    """
    if told := os.environ.get(variable):
        return int(told)
    if os.environ.get("CI"):
        return 20261124
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    return int(run[:7], 16) if run else random.SystemRandom().randrange(10**8)
