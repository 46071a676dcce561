"""The sensor takes in what changed, once it stands still, and only once."""

import dagster as dg
import pytest

from orchestration.resources import Stores
from orchestration.schedules import hourly_ingestion
from orchestration.sensors import source_changes
from tests.support.knowledge_base import KnowledgeBase


def tick(instance: dg.DagsterInstance, cursor: str | None) -> tuple[dg.RunRequest | dg.SkipReason, str | None]:
    context = dg.build_sensor_context(instance=instance, cursor=cursor, resources={"stores": Stores()})
    said = source_changes(context)
    assert isinstance(said, dg.RunRequest | dg.SkipReason)
    return said, context.cursor


def test_nothing_is_taken_in_when_the_sources_are_as_they_were(knowledge_base: KnowledgeBase) -> None:
    knowledge_base.write("a.md", "# 甲\n\n这是第一份文档的内容。\n")
    knowledge_base.ingest()
    said, _ = tick(dg.DagsterInstance.ephemeral(), None)
    assert isinstance(said, dg.SkipReason)
    assert "up to date" in (said.skip_message or "")


def test_a_change_waits_until_the_folder_stands_still_for_one_tick(knowledge_base: KnowledgeBase) -> None:
    instance = dg.DagsterInstance.ephemeral()
    knowledge_base.write("a.md", "# 甲\n\n这是第一份文档的内容。\n")
    knowledge_base.ingest()
    knowledge_base.write("b.md", "# 乙\n\n这是第二份文档的内容。\n")
    first, cursor = tick(instance, None)
    assert isinstance(first, dg.SkipReason)
    knowledge_base.write("c.md", "# 丙\n\n这是第三份文档的内容。\n")
    second, cursor = tick(instance, cursor)
    assert isinstance(second, dg.SkipReason)
    third, cursor = tick(instance, cursor)
    assert isinstance(third, dg.RunRequest)
    again, _ = tick(instance, cursor)
    assert isinstance(again, dg.RunRequest)
    assert again.run_key == third.run_key  # so Dagster starts it only once
    knowledge_base.ingest()
    after, _ = tick(instance, cursor)
    assert isinstance(after, dg.SkipReason)


def test_a_lost_vector_store_is_noticed(knowledge_base: KnowledgeBase) -> None:
    knowledge_base.write("a.md", "# 甲\n\n这是第一份文档的内容。\n")
    knowledge_base.ingest()
    knowledge_base.client.delete_collection(knowledge_base.live()[0])
    instance = dg.DagsterInstance.ephemeral()
    _, cursor = tick(instance, None)
    said, _ = tick(instance, cursor)
    assert isinstance(said, dg.RunRequest)


def test_a_database_that_is_down_is_a_sentence_and_no_failure(
    knowledge_base: KnowledgeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://zhiyun@127.0.0.1:1/zhiyun")
    said, _ = tick(dg.DagsterInstance.ephemeral(), None)
    assert isinstance(said, dg.SkipReason)
    assert "DATABASE_URL" in (said.skip_message or "")


def test_the_clock_and_the_sensor_wait_for_a_run_in_progress(knowledge_base: KnowledgeBase) -> None:
    from orchestration.definitions import defs

    with dg.instance_for_test() as instance:
        instance.create_run_for_job(defs.resolve_job_def("ingestion"), status=dg.DagsterRunStatus.STARTED)
        said, _ = tick(instance, None)
        assert isinstance(said, dg.SkipReason)
        assert "has not ended" in (said.skip_message or "")
        by_clock = hourly_ingestion(dg.build_schedule_context(instance=instance))
        assert isinstance(by_clock, dg.SkipReason)
