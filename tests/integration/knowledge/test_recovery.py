"""After a restore the record and the vector store come from different moments: the next releases must add up all the same."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from embedded.services import postgres
from knowledge.database import Connection, connect
from knowledge.models import registry
from knowledge.models.embedding import Embedder
from knowledge.releases import lifecycle, recovery
from knowledge.releases.collection import Collections
from orchestration.backups.making import golden
from orchestration.backups.recovery_point import VectorsPart
from orchestration.backups.vectors import capture as vectors_capture
from orchestration.backups.vectors import restore as vectors_restore
from tests.support.backups.memory_objects import MemoryObjects
from tests.support.knowledge_base import KnowledgeBase, failures
from zhiyun.settings import DatabaseSettings, KnowledgeSettings, QdrantSettings

REFUNDS = "# 退款\n\n付款后 7 天内可以全额退款。\n"
PLANS = "# 套餐\n\n标准版每月 299 元。\n"
LIMITS = "# 限制\n\n每分钟最多 60 次请求。\n"
# Enough beside what is edited that the model stays.
OTHERS = {f"other-{number}.md": f"# 其他 {number}\n\n第 {number} 条说明与退款无关。\n" for number in range(5)}
KEEP = KnowledgeSettings().releases_kept


@pytest.fixture
def collections(knowledge_base: KnowledgeBase) -> Iterator[Collections]:
    collections = Collections(QdrantSettings())
    yield collections
    collections.close()


@pytest.fixture
def connection(knowledge_base: KnowledgeBase) -> Iterator[Connection]:
    with connect(DatabaseSettings()) as connection:
        yield connection


@pytest.fixture
def another_database(postgres_cluster: postgres.Cluster) -> Iterator[Callable[[str], str]]:
    """Copies databases, as a dump and its restore would."""
    made: list[str] = []

    def copy(url: str) -> str:
        name = f"test_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(postgres_cluster.url("postgres", "postgres"), autocommit=True) as admin:
            template = sql.Identifier(url.rpartition("/")[2])
            admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER zhiyun").format(sql.Identifier(name), template))
        made.append(name)
        return postgres_cluster.url(name)

    yield copy
    with psycopg.connect(postgres_cluster.url("postgres", "postgres"), autocommit=True) as admin:
        for name in made:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def capture(base: KnowledgeBase, store: MemoryObjects) -> VectorsPart:
    settings = QdrantSettings()
    return vectors_capture.capture(settings, store, "points/p/1/", skip=lambda name: not name.startswith(base.alias))


def write_all(base: KnowledgeBase) -> None:
    for name, text in {"refunds.md": REFUNDS, "plans.md": PLANS, **OTHERS}.items():
        base.write(name, text)


def load(connection: Connection) -> recovery.Load:
    return partial(registry.load_model, connection)


def silent(_: str) -> None:
    pass


def texts(base: KnowledgeBase) -> str:
    return "".join(passage["text"] for passage in base.live_passages())


def test_a_restore_under_another_name_answers_the_same_and_is_where_the_next_release_goes(
    knowledge_base: KnowledgeBase, collections: Collections, connection: Connection, tmp_path: Path
) -> None:
    write_all(knowledge_base)
    knowledge_base.ingest()
    questions = {"几天内可以退款？": "docs/refunds.md", "标准版多少钱？": "docs/plans.md"}

    def ask(models: Path | None = None) -> list[golden.Answer]:
        live = lifecycle.live(connection)
        assert live
        model = registry.load_model(connection, live.fingerprint, models)
        found = golden.ask(collections, model, live.collection, live.number, live.fusion_weight, list(questions))
        return list(found)

    answers = ask()
    assert [answer.passages[0].partition("#")[0] for answer in answers] == list(questions.values())
    assert 1 < len(answers[0].passages) <= 5
    before, store = knowledge_base.live_passages(), MemoryObjects()
    part = capture(knowledge_base, store)
    restored = vectors_restore.restore(QdrantSettings(), part, store)
    old, _ = knowledge_base.live()
    new = restored.names[old]
    assert new != old
    recovery.rename_in_record(connection, restored.renamed)
    assert recovery.settle(connection, collections, load(connection), KEEP, silent) == []
    # With the model out of the database, as on a machine that has nothing yet.
    again = ask(tmp_path / "models")
    assert (tmp_path / "models").exists()
    assert golden.compare(answers, again) == golden.Compared(2, 2, 2, ())
    vectors_restore.switch(QdrantSettings(), part, restored)
    assert knowledge_base.live() == (new, 1)
    assert knowledge_base.live_passages() == before
    assert vectors_restore.discard(QdrantSettings(), restored.replaced) == [old]

    knowledge_base.write("refunds.md", REFUNDS.replace("7 天", "8 天"))
    result = knowledge_base.ingest()
    assert result.success, failures(result)
    assert knowledge_base.live() == (new, 2)
    assert "8 天" in texts(knowledge_base)
    assert "299 元" in texts(knowledge_base)
    [(added,)] = knowledge_base.rows("SELECT counts->>'added' FROM knowledge.releases WHERE number = 2")
    assert added == "1"  # only what was edited
    assert collections.all() == [new]


def test_what_was_published_after_the_database_was_dumped_is_taken_back(
    knowledge_base: KnowledgeBase,
    collections: Collections,
    another_database: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_all(knowledge_base)
    knowledge_base.ingest()
    before = knowledge_base.live_passages()
    dumped = another_database(knowledge_base.database_url)
    # The database is dumped; then, before the vectors are captured, a release comes out.
    knowledge_base.write("refunds.md", REFUNDS.replace("7 天", "9 天"))
    knowledge_base.write("limits.md", LIMITS)
    knowledge_base.ingest()
    assert knowledge_base.live()[1] == 2

    knowledge_base.database_url = dumped
    monkeypatch.setenv("DATABASE_URL", dumped)
    with connect(DatabaseSettings()) as connection:
        assert recovery.settle(connection, collections, load(connection), KEEP, silent) == []
        assert recovery.publish_again(connection, collections) == 1
    assert knowledge_base.live()[1] == 1
    assert knowledge_base.live_passages() == before
    result = knowledge_base.ingest()
    assert result.success, failures(result)
    assert knowledge_base.live()[1] == 2
    assert "9 天" in texts(knowledge_base)
    assert "7 天" not in texts(knowledge_base)
    assert "60 次" in texts(knowledge_base)


def test_older_vectors_are_completed_from_the_database_without_embedding(
    knowledge_base: KnowledgeBase, collections: Collections, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_all(knowledge_base)
    knowledge_base.ingest()
    store = MemoryObjects()
    part = capture(knowledge_base, store)
    knowledge_base.write("refunds.md", REFUNDS.replace("7 天", "9 天"))
    knowledge_base.write("limits.md", LIMITS)
    knowledge_base.ingest()
    now = knowledge_base.live_passages()
    restored = vectors_restore.restore(QdrantSettings(), part, store)
    recovery.rename_in_record(connection, restored.renamed)
    monkeypatch.setattr(Embedder, "embed_passages", _never)
    [said] = recovery.settle(connection, collections, load(connection), KEEP, silent)
    assert "differed from the database" in said
    vectors_restore.switch(QdrantSettings(), part, restored)
    assert recovery.publish_again(connection, collections) == 2
    assert knowledge_base.live() == (restored.names[part.live_collection or ""], 2)
    assert knowledge_base.live_passages() == now


def _never(*_: object) -> None:
    raise AssertionError("nothing is to be embedded")


def test_vectors_are_rebuilt_from_the_database_without_embedding(
    knowledge_base: KnowledgeBase, collections: Collections, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_all(knowledge_base)
    knowledge_base.ingest()
    knowledge_base.write("refunds.md", REFUNDS.replace("7 天", "8 天"))
    knowledge_base.ingest()
    before = knowledge_base.live_passages()
    old, number = knowledge_base.live()
    points = collections.size(old)
    monkeypatch.setattr(Embedder, "embed_passages", _never)

    scratch = recovery.rebuild(
        connection, collections, load(connection), KEEP, silent, into=f"trial-{knowledge_base.alias}"
    )
    assert scratch == {old: f"trial-{knowledge_base.alias}_{old}"}
    assert collections.size(scratch[old]) == points
    vectors_restore.sweep_scratch(QdrantSettings(), f"trial-{knowledge_base.alias}")

    beside = recovery.rebuild(connection, collections, load(connection), KEEP, silent)
    assert knowledge_base.live() == (old, number)
    recovery.rename_in_record(connection, beside)
    recovery.publish_again(connection, collections)
    assert knowledge_base.live() == (beside[old], number)
    assert knowledge_base.live_passages() == before

    for name in collections.all():
        collections.delete(name)
    assert recovery.rebuild(connection, collections, load(connection), KEEP, silent) == {beside[old]: beside[old]}
    recovery.publish_again(connection, collections)
    assert knowledge_base.live_passages() == before
    monkeypatch.undo()


def test_a_collection_that_the_record_does_not_know_is_not_built_upon(
    knowledge_base: KnowledgeBase, collections: Collections, another_database: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    empty = another_database(knowledge_base.database_url)
    write_all(knowledge_base)
    knowledge_base.ingest()
    stale, _ = knowledge_base.live()
    knowledge_base.database_url = empty
    monkeypatch.setenv("DATABASE_URL", empty)
    result = knowledge_base.ingest()
    assert result.success, failures(result)
    name, number = knowledge_base.live()
    assert number == 1
    assert name.startswith(f"{stale}_r")
    assert "7 天" in texts(knowledge_base)
    assert collections.all() == [name]
