"""The pipeline's promises, on a real PostgreSQL and the real engine of the vector store."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from tests.support.knowledge_base import KnowledgeBase, failures

BILLING = """# 账单

## 退款

购买后 7 天内可以申请全额退款。退款在 3 个工作日内原路退回。

## 发票

在「费用中心」申请电子发票，开票时间为 1 个工作日。
"""
LIMITS = """# API 限制

每个密钥每秒 20 次请求，超出时返回 429。

| 接口 | 限制 |
|---|---|
| orders.batchQuery | 100 |
| orders.create | 20 |
"""


def test_documents_become_a_live_release_with_offsets_into_their_source(knowledge_base: KnowledgeBase) -> None:
    knowledge_base.write("billing.md", BILLING)
    knowledge_base.write("api/limits.md", LIMITS)
    result = knowledge_base.ingest()
    assert knowledge_base.metadata(result, "source_documents")["added"] == 2
    assert knowledge_base.live()[1] == 1
    passages = knowledge_base.live_passages()
    assert {p["uri"] for p in passages} == {"docs/billing.md", "docs/api/limits.md"}
    for passage in passages:
        source = (knowledge_base.folder / passage["path"]).read_text()
        assert source[passage["start"] : passage["end"]] == passage["text"]
    refund = next(p for p in passages if "7 天" in p["text"])
    assert refund["heading"] == ["账单", "退款"]


def test_nothing_changed_means_nothing_embedded_and_no_new_release(knowledge_base: KnowledgeBase) -> None:
    knowledge_base.write("billing.md", BILLING)
    knowledge_base.ingest()
    again = knowledge_base.ingest()
    assert knowledge_base.metadata(again, "source_documents")["unchanged"] == 1
    assert knowledge_base.metadata(again, "passages")["documents_cut"] == 0
    assert knowledge_base.metadata(again, "passage_vectors")["embedded"] == 0
    assert knowledge_base.metadata(again, "live_release")["published_now"] is False
    assert knowledge_base.live()[1] == 1


def test_one_edited_line_embeds_only_its_own_passage(knowledge_base: KnowledgeBase) -> None:
    sections = "\n".join(
        f"## 第 {n} 节\n\n第 {n} 节说的是功能 F{n}，它每天最多使用 {n * 10} 次，超出后第二天恢复。这是一段足够长的说明文字。\n"
        for n in range(1, 31)
    )
    file = knowledge_base.write("manual.md", f"# 手册\n\n{sections}")
    first = knowledge_base.ingest()
    total = knowledge_base.metadata(first, "passages")["passages"]
    file.write_text(file.read_text().replace("功能 F7，", "功能 F7（已更名），"))
    second = knowledge_base.ingest()
    assert knowledge_base.metadata(second, "passage_vectors")["embedded"] == 1
    assert total >= 10
    assert knowledge_base.live()[1] == 2
    texts = "".join(p["text"] for p in knowledge_base.live_passages())
    assert "已更名" in texts
    assert "F7，" not in texts


def test_a_document_that_left_the_folder_leaves_the_release(knowledge_base: KnowledgeBase) -> None:
    knowledge_base.write("billing.md", BILLING)
    file = knowledge_base.write("limits.md", LIMITS)
    knowledge_base.ingest()
    file.unlink()
    result = knowledge_base.ingest()
    assert knowledge_base.metadata(result, "source_documents")["removed"] == 1
    assert {p["uri"] for p in knowledge_base.live_passages()} == {"docs/billing.md"}


def test_a_document_that_comes_back_is_a_new_point_whose_vector_was_kept(knowledge_base: KnowledgeBase) -> None:
    knowledge_base.write("billing.md", BILLING)
    file = knowledge_base.write("limits.md", LIMITS)
    knowledge_base.ingest()
    before = {p["passage_id"] for p in knowledge_base.live_passages() if p["path"] == "limits.md"}
    file.unlink()
    knowledge_base.ingest()
    knowledge_base.write("limits.md", LIMITS)
    result = knowledge_base.ingest()
    assert knowledge_base.metadata(result, "passage_vectors")["embedded"] == 0
    after = {p["passage_id"] for p in knowledge_base.live_passages() if p["path"] == "limits.md"}
    assert after
    assert not after & before


def test_customers_read_the_old_release_until_the_new_one_is_published(knowledge_base: KnowledgeBase) -> None:
    from knowledge.releases.collection import release_filter

    file = knowledge_base.write("billing.md", BILLING)
    knowledge_base.ingest()
    file.write_text(BILLING.replace("7 天", "15 天"))
    knowledge_base.ingest()
    collection, number = knowledge_base.live()
    old, _ = knowledge_base.client.scroll(collection, scroll_filter=release_filter(number - 1), limit=100)
    new, _ = knowledge_base.client.scroll(collection, scroll_filter=release_filter(number), limit=100)
    assert any("7 天" in p.payload["text"] for p in old if p.payload)
    assert not any("15 天" in p.payload["text"] for p in old if p.payload)
    assert any("15 天" in p.payload["text"] for p in new if p.payload)
    assert not any("7 天" in p.payload["text"] for p in new if p.payload)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("picture.md", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20, "not text"),
        ("huge.md", "# 大\n".encode() + b"x" * 50_000_000, "KNOWLEDGE_MAX_FILE_MB"),
        ("empty.md", b"", "empty"),
    ],
)
def test_a_file_that_cannot_be_read_is_quarantined_and_the_rest_goes_on(
    knowledge_base: KnowledgeBase, name: str, content: bytes, reason: str
) -> None:
    knowledge_base.write("billing.md", BILLING)
    knowledge_base.write(name, content)
    result = knowledge_base.ingest()
    assert knowledge_base.metadata(result, "source_documents")["quarantined"] == 1
    [(status, said)] = knowledge_base.rows(f"SELECT status, reason FROM knowledge.documents WHERE path = '{name}'")
    assert status == "failed"
    assert reason in said
    assert {p["uri"] for p in knowledge_base.live_passages()} == {"docs/billing.md"}


def test_the_earlier_version_of_a_file_that_became_unreadable_stays_answerable(knowledge_base: KnowledgeBase) -> None:
    file = knowledge_base.write("billing.md", BILLING)
    knowledge_base.write("limits.md", LIMITS)
    knowledge_base.ingest()
    file.write_bytes(b"\x00\x01\x02" * 1000)
    result = knowledge_base.ingest()
    assert knowledge_base.metadata(result, "source_documents")["quarantined"] == 1
    assert any("7 天" in p["text"] for p in knowledge_base.live_passages())


def test_gb18030_text_is_read_and_noted(knowledge_base: KnowledgeBase) -> None:
    knowledge_base.write(
        "old.txt", "退款说明\n\n购买后七天内可以申请全额退款，款项在三个工作日内原路退回。\n".encode("gb18030")
    )
    result = knowledge_base.ingest()
    assert "GB18030" in knowledge_base.metadata(result, "source_documents")["notes"]
    assert any("七天内" in p["text"] for p in knowledge_base.live_passages())


@pytest.mark.parametrize("case", ["empty", "missing"])
def test_a_source_that_is_empty_or_missing_fails_in_one_sentence_and_disturbs_nothing(
    knowledge_base: KnowledgeBase, case: str
) -> None:
    knowledge_base.write("billing.md", BILLING)
    knowledge_base.ingest()
    for file in knowledge_base.folder.iterdir():
        file.unlink()
    if case == "missing":
        knowledge_base.folder.rmdir()
    result = knowledge_base.ingest()
    assert not result.success
    said = failures(result)
    assert str(knowledge_base.folder) in said
    assert "\n" not in said
    assert any("7 天" in p["text"] for p in knowledge_base.live_passages())


def test_one_missing_source_does_not_keep_the_others_from_being_taken_in(
    knowledge_base: KnowledgeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    knowledge_base.write("billing.md", BILLING)
    monkeypatch.setenv("KNOWLEDGE_SOURCES", f"docs={knowledge_base.folder},other={knowledge_base.folder}-none")
    result = knowledge_base.ingest()
    assert result.success
    assert any("7 天" in p["text"] for p in knowledge_base.live_passages())
    [(problems,)] = knowledge_base.rows("SELECT problems FROM knowledge.scans")
    assert len(problems) == 1


def test_a_file_that_changes_while_it_is_read_is_left_for_the_next_run(
    knowledge_base: KnowledgeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "knowledge.documents.sources._BLOCK", 1
    )  # so that reading takes a while, also on a busy machine
    knowledge_base.write("billing.md", BILLING)
    file = knowledge_base.write("busy.md", "# 忙\n\n" + "内容。\n\n" * 50_000)
    # Another process, so that it writes in the middle of a read.
    code = "import sys, time\nwith open(sys.argv[1], 'a') as f:\n while True: f.write('x\\n'); f.flush(); time.sleep(0.0002)"
    writer = subprocess.Popen([sys.executable, "-c", code, str(file)])
    try:
        size = file.stat().st_size
        while file.stat().st_size == size:
            time.sleep(0.01)
        result = knowledge_base.ingest()
    finally:
        writer.kill()
        writer.wait()
    assert result.success, failures(result)
    [(status, reason)] = knowledge_base.rows("SELECT status, reason FROM knowledge.documents WHERE path = 'busy.md'")
    assert status == "failed"
    assert "changed while" in reason
    assert any("7 天" in p["text"] for p in knowledge_base.live_passages())
    file.write_text("# 忙\n\n现在不再变化了。\n")
    assert knowledge_base.metadata(knowledge_base.ingest(), "source_documents")["quarantined"] == 0


def test_a_lost_vector_store_is_filled_again_without_embedding(knowledge_base: KnowledgeBase) -> None:
    knowledge_base.write("billing.md", BILLING)
    knowledge_base.ingest()
    before = knowledge_base.live_passages()
    knowledge_base.client.delete_collection(knowledge_base.live()[0])
    result = knowledge_base.ingest()
    assert knowledge_base.metadata(result, "passage_vectors")["embedded"] == 0
    assert knowledge_base.live_passages() == before


def test_a_candidate_that_a_crash_left_is_discarded_by_the_next_run(knowledge_base: KnowledgeBase) -> None:
    from knowledge.database import connect
    from knowledge.models import registry
    from knowledge.passages import catalogue
    from knowledge.releases import lifecycle
    from knowledge.releases.collection import Collections
    from zhiyun.settings import DatabaseSettings, KnowledgeSettings, QdrantSettings

    knowledge_base.write("billing.md", BILLING)
    knowledge_base.ingest()
    before = knowledge_base.live_passages()
    knowledge_base.write("limits.md", LIMITS)
    # Everything a run does up to the candidate, and then nothing more: as after kill -9.
    with connect(DatabaseSettings()) as connection:
        from knowledge.documents.intake import take_in
        from knowledge.documents.sources import parse_sources

        settings = KnowledgeSettings()
        take_in(connection, parse_sources(settings.sources), settings.max_file_mb, lambda _: None)
        catalogue.cut_new(connection, settings, lambda _: None)
        rules = catalogue.passage_rules(settings)
        model = registry.chosen_model(connection, rules)
        assert lifecycle.build(connection, Collections(QdrantSettings()), model, rules, lambda _: None)
    assert knowledge_base.live_passages() == before
    result = knowledge_base.ingest()
    assert result.success, failures(result)
    assert {p["path"] for p in knowledge_base.live_passages()} == {"billing.md", "limits.md"}
    statuses = [row[0] for row in knowledge_base.rows("SELECT status FROM knowledge.releases ORDER BY number")]
    assert statuses == ["retired", "rejected", "live"]


def test_two_runs_at_once_do_not_both_write(knowledge_base: KnowledgeBase) -> None:
    from knowledge.database import connect, writer
    from zhiyun.settings import DatabaseSettings

    knowledge_base.write("billing.md", BILLING)
    with connect(DatabaseSettings()) as connection, writer(connection):
        result = knowledge_base.ingest()
    assert not result.success
    assert "The knowledge base is held by another run (zhiyun ingestion" in failures(result)


def test_the_writer_lock_goes_with_a_killed_run(knowledge_base: KnowledgeBase) -> None:
    from knowledge.database import connect, writer
    from zhiyun.settings import DatabaseSettings

    knowledge_base.write("billing.md", BILLING)
    child = os.fork()
    if child == 0:
        with connect(DatabaseSettings()) as connection, writer(connection):
            os._exit(9)
    os.waitpid(child, 0)
    deadline = time.monotonic() + 10
    while not (result := knowledge_base.ingest()).success and time.monotonic() < deadline:
        time.sleep(0.2)
    assert result.success, failures(result)


def test_old_releases_are_pruned_with_what_only_they_needed(
    knowledge_base: KnowledgeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KNOWLEDGE_RELEASES_KEPT", "1")
    file = knowledge_base.write("billing.md", BILLING)
    for days in (7, 8, 9, 10):
        file.write_text(BILLING.replace("7 天", f"{days} 天"))
        knowledge_base.ingest()
    assert knowledge_base.live()[1] == 4
    points = knowledge_base.client.count(knowledge_base.live()[0]).count
    assert points == knowledge_base.rows("SELECT count(*) FROM knowledge.points")[0][0]
    assert {row[0] for row in knowledge_base.rows("SELECT min(removed_in) FROM knowledge.points")} == {4}
    assert knowledge_base.rows("SELECT count(*) FROM knowledge.contents") == [(2,)]


def test_a_change_of_the_passage_rules_builds_a_collection_beside_and_moves_the_alias(
    knowledge_base: KnowledgeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    knowledge_base.write("billing.md", BILLING)
    knowledge_base.ingest()
    before, _ = knowledge_base.live()
    monkeypatch.setenv("KNOWLEDGE_PASSAGE_CHARS", "200")
    result = knowledge_base.ingest()
    assert result.success, failures(result)
    after, number = knowledge_base.live()
    assert after != before
    assert number == 2
    assert knowledge_base.client.collection_exists(before)
    assert knowledge_base.live_passages()
