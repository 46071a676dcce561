"""Whole platforms for tests of restores: release 1 is in a recovery point, release 2 and later conversations are live.

The first is made once in a session; each test gets a copy with a database, a vector store and folders of its own.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from embedded.services.postgres import Cluster
from knowledge.models import registry
from knowledge.releases.collection import Collections
from orchestration.backups.installation import Installation, installation
from orchestration.backups.making import golden
from orchestration.backups.making.steps import make
from orchestration.backups.progress import Logged
from tests.conftest import migrate
from tests.support.knowledge_base import KnowledgeBase, failures
from tests.support.vectors.vector_store import ServerProcess
from zhiyun.settings import QdrantSettings

POINT = "2026-11-24T031500Z"
ALIAS = "kb"
FIRST = "# 退款\n\n付款后 7 天内可以全额退款。\n"
SECOND = "# 退款\n\n付款后 30 天内可以全额退款。\n"
QUESTIONS = ("几天内可以退款？", "标准版多少钱？", "订单 7 可以导出吗？")
DOCUMENTS = {
    "refunds.md": FIRST,
    "plans.md": "# 套餐\n\n标准版每月 299 元。\n",
    # Enough that an edited document is no reason for another model, and so for another collection.
    **{f"orders/{n}.md": f"# 订单 {n}\n\n订单 {n} 可以在控制台查询，也可以导出。\n" for n in range(20)},
}


class Steps(Logged):
    """What a restore says; and at a step it can be interfered with."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.at: dict[str, Callable[[], object]] = {}
        super().__init__(self.said.append)

    def step(self, what: str) -> None:
        super().step(what)
        if act := self.at.pop(what, None):
            act()


@dataclass
class Platform(KnowledgeBase):
    """A platform with stores of its own, and the environment that leads to it."""

    root: Path
    cluster: Cluster
    environment: dict[str, str]
    server: ServerProcess
    steps: Steps = field(default_factory=Steps)

    @property
    def database(self) -> str:
        return self.database_url.rpartition("/")[2]

    @property
    def backups(self) -> Path:
        return self.root / "backups"

    @property
    def inst(self) -> Installation:
        """As the environment says now."""
        return installation(self.steps)

    def admin(self, database: str = "postgres") -> str:
        return self.cluster.url(database, "postgres")

    def converse(self, *messages: str) -> None:
        """Conversations, as the chat would have stored them."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            for message in messages:
                one = uuid.uuid4()
                connection.execute("INSERT INTO chat.conversations (id, language) VALUES (%s, 'zh')", (one,))
                connection.execute(
                    "INSERT INTO chat.messages (id, conversation_id, role, content, language) "
                    "VALUES (%s, %s, 'customer', %s, 'zh')",
                    (uuid.uuid4(), one, message),
                )

    def messages(self, database: str = "") -> list[str]:
        return [row[0] for row in rows(self.admin(database or self.database), "SELECT content FROM chat.messages")]

    def answers(self) -> list[golden.Answer]:
        """The best passage of each question, read as the chat reads it: from what the vector store says is live."""
        collections = Collections(QdrantSettings(url=self.qdrant_url, collection=self.alias))
        try:
            told = self.client.get_collection(self.alias).config.metadata or {}
            with psycopg.connect(self.database_url) as connection:
                model = registry.load_model(connection, told["fingerprint"])
            weight = told["fusion_weight"]
            found = golden.ask(collections, model, told["collection"], told["live_release"], weight, QUESTIONS)
            # Of the orders many are as good as each other: chance decides which of them follow.
            return [golden.Answer(one.question, one.passages[:1]) for one in found]
        finally:
            collections.close()

    def databases(self) -> set[str]:
        """Databases beside the live one, and it."""
        found = rows(self.admin(), "SELECT datname FROM pg_database")
        return {row[0] for row in found if row[0].startswith(self.database)}

    def collections(self) -> set[str]:
        return {one.name for one in self.client.get_collections().collections}

    def aliases(self) -> dict[str, str]:
        return {one.alias_name: one.collection_name for one in self.client.get_aliases().aliases}

    def files(self) -> dict[str, tuple[bytes, int]]:
        return {
            path.relative_to(self.folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
            for path in sorted(self.folder.rglob("*.md"))
        }

    def state(self) -> dict[str, Any]:
        """Everything that a failed restore must leave alone."""
        return {
            "databases": self.databases(),
            "rows": contents(self.admin(self.database)),
            "collections": self.collections(),
            "aliases": self.aliases(),
            "live": self.live(),
            "passages": self.live_passages(),
            "files": self.files(),
        }

    def restart_vector_store(self, *options: str) -> None:
        """Start it again where it was, after it was killed."""
        port = int(self.qdrant_url.rpartition(":")[2])
        self.server.process.wait()
        self.server = ServerProcess(self.root / "qdrant", "--port", str(port), *options, log=self.root / "qdrant.log")
        self.server.url = self.qdrant_url
        self.server.wait_until_ready()


@dataclass(frozen=True)
class Made:
    """The platform that tests get copies of, and what its recovery point has."""

    root: Path
    database: str
    dagster: str
    rows: dict[str, list[str]]
    answers: list[golden.Answer]
    passages: list[dict[str, Any]]
    later: list[golden.Answer]


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(query.encode()).fetchall()


def contents(url: str, without: Sequence[str] = ("operations",)) -> dict[str, list[str]]:
    """Every row of every table as text. `operations` is what a restore itself writes down."""
    found: dict[str, list[str]] = {}
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET timezone = 'UTC'")
        for schema, table in connection.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname !~ '^(pg_|information_schema)' ORDER BY 1, 2"
        ).fetchall():
            if schema not in without:
                query = sql.SQL("SELECT t::text FROM {} t ORDER BY 1").format(sql.Identifier(schema, table))
                found[f"{schema}.{table}"] = [row[0] for row in connection.execute(query)]
    return found


def drop(cluster: Cluster, start: str) -> None:
    """Drop every database whose name begins so."""
    with psycopg.connect(cluster.url("postgres", "postgres"), autocommit=True) as connection:
        for (name,) in connection.execute("SELECT datname FROM pg_database").fetchall():
            if name.startswith(start):
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def create(cluster: Cluster, name: str, template: str = "template1") -> None:
    with psycopg.connect(cluster.url("postgres", "postgres"), autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} OWNER zhiyun TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )


@contextmanager
def opened(root: Path, cluster: Cluster, database: str, dagster: str) -> Iterator[Platform]:
    """A platform over these stores, with its vector store running and the environment leading there."""
    (root / "docs").mkdir(parents=True, exist_ok=True)
    server = ServerProcess(root / "qdrant", log=root / "qdrant.log").wait_until_ready()
    environment = {
        "DATABASE_URL": cluster.url(database),
        "DATABASE_ADMIN_URL": cluster.url(database, "postgres"),
        "DAGSTER_DATABASE_URL": cluster.url(dagster),
        "QDRANT_URL": server.url,
        "QDRANT_COLLECTION": ALIAS,
        "REDIS_URL": "redis://127.0.0.1:1/0",  # nobody is there: a restore says so and goes on
        "KNOWLEDGE_SOURCES": f"docs={root / 'docs'}",
        "KNOWLEDGE_GOLDEN_SET": str(root / "golden.jsonl"),
        "ZHIYUN_HOME": str(root / "home"),
        "BACKUP_STORES": str(root / "backups"),
        "EMBEDDING_MODEL": "corpus",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        found = Platform(root / "docs", cluster.url(database), server.url, ALIAS, root, cluster, environment, server)
        try:
            yield found
        finally:
            found.server.process.kill()
            found.server.process.wait()


@pytest.fixture(scope="session")
def made(postgres_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """Release 1 and two conversations in a verified recovery point; then release 2, and another conversation."""
    root = tmp_path_factory.mktemp("platform")
    database = f"made_{uuid.uuid4().hex[:8]}"
    dagster = f"{database}_dagster"
    create(postgres_cluster, database)
    migrate(postgres_cluster.url(database))
    create(postgres_cluster, dagster)
    with psycopg.connect(postgres_cluster.url(dagster), autocommit=True) as connection:
        connection.execute("CREATE TABLE runs AS SELECT i AS id, 'run ' || i AS body FROM generate_series(1, 5) i")
    answers = {"几天内可以退款？": "refunds.md", "标准版多少钱？": "plans.md", "订单 7 可以导出吗？": "orders/7.md"}
    lines = [json.dumps({"question": question, "document": f"docs/{path}"}) for question, path in answers.items()]
    (root / "golden.jsonl").write_text("\n".join(lines))
    with opened(root, postgres_cluster, database, dagster) as platform:
        for name, text in DOCUMENTS.items():
            platform.write(name, text)
        result = platform.ingest()
        assert result.success, failures(result)
        platform.converse("几天内可以退款？", "谢谢")
        point = make(platform.inst, POINT, "hand")
        assert point.good, point.problems
        assert point.manifest.golden
        of_the_point = contents(platform.admin(database)), platform.answers(), platform.live_passages()
        platform.write("refunds.md", SECOND)
        platform.write("invoices.md", "# 发票\n\n在费用中心开具发票。\n")
        (platform.folder / "orders/3.md").unlink()
        result = platform.ingest()
        assert result.success, failures(result)
        assert platform.live()[1] == 2
        platform.converse("发票在哪里开？")
        later = platform.answers()
        platform.server.stop()
    yield Made(root, database, dagster, *of_the_point, later)
    drop(postgres_cluster, database)


@contextmanager
def copied(made: Made, cluster: Cluster, root: Path) -> Iterator[Platform]:
    """A copy of the made platform, with nothing in common with it."""
    database = f"of_{uuid.uuid4().hex[:8]}"
    create(cluster, database, made.database)
    create(cluster, f"{database}_dagster", made.dagster)
    for name in ("docs", "backups", "qdrant"):
        shutil.copytree(made.root / name, root / name)
    shutil.copy(made.root / "golden.jsonl", root)
    try:
        with opened(root, cluster, database, f"{database}_dagster") as platform:
            yield platform
    finally:
        drop(cluster, database)


@pytest.fixture
def platform(made: Made, postgres_cluster: Cluster, tmp_path: Path) -> Iterator[Platform]:
    """A platform of the test's own: release 2 is live, release 1 is in the recovery point POINT."""
    with copied(made, postgres_cluster, tmp_path) as one:
        yield one


@pytest.fixture
def empty(made: Made, postgres_cluster: Cluster, tmp_path: Path) -> Iterator[Platform]:
    """An environment with nothing in it but the store of recovery points."""
    database = f"new_{uuid.uuid4().hex[:8]}"
    create(postgres_cluster, database)
    shutil.copytree(made.root / "backups", tmp_path / "backups")
    shutil.copy(made.root / "golden.jsonl", tmp_path)
    try:
        with opened(tmp_path, postgres_cluster, database, f"{database}_dagster") as one:
            yield one
    finally:
        drop(postgres_cluster, database)
