"""A recovery point restored into a running platform: customers get what it holds, whole, and the state before is kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from knowledge.models.embedding import Embedder
from knowledge.releases.vector_store import CURRENT
from orchestration.backups.making import steps
from orchestration.backups.recovery_point import BackupError
from orchestration.backups.restore import in_place, kept
from tests.conftest import migrate
from tests.support.backups.platforms import FIRST, POINT, SECOND, Made, Platform, contents, rows
from tests.support.knowledge_base import failures

pytest_plugins = ("tests.support.backups.platforms",)


@pytest.fixture
def no_embedding(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("nothing is to be embedded")

    monkeypatch.setattr(Embedder, "embed_passages", never)


def renamed(of_the_point: dict[str, list[str]], names: dict[str, str]) -> dict[str, list[str]]:
    """Rows of the point as they are where its collections have other names."""
    found = of_the_point
    for old, new in names.items():
        found = {table: sorted(row.replace(old, new) for row in its) for table, its in found.items()}
    return found


def later_points(platform: Platform, release: int = 1) -> list[str]:
    """What the live collection still has of releases after this one."""
    points, _ = platform.client.scroll(platform.live()[0], limit=1000)
    payloads = [point.payload or {} for point in points]
    return [p["uri"] for p in payloads if p["added_in"] > release or release < p["removed_in"] < CURRENT]


def test_customers_get_the_point_whole_and_what_was_live_is_kept_and_can_be_put_back(
    made: Made, platform: Platform, no_embedding: None
) -> None:
    before, old = platform.state(), platform.live()[0]
    report = in_place.restore(platform.inst, platform.inst.primary, "latest")
    assert report.point == POINT
    assert platform.answers() == made.answers
    assert platform.live() == (report.collections[old], 1)
    assert [p["text"] for p in platform.live_passages()] == [p["text"] for p in made.passages]
    assert contents(platform.admin(platform.database)) == renamed(made.rows, report.collections)
    assert report.replaced == (old,)
    assert old in platform.collections()
    assert [one.name for one in kept.databases(platform.inst)] == [report.kept]
    assert contents(platform.admin(report.kept)) == before["rows"]
    assert report.files is not None
    assert report.files.kept_newer == 1  # refunds.md was edited since
    assert (platform.folder / "refunds.md").read_text() == SECOND
    assert (platform.folder / "orders/3.md").exists()
    assert f"zhiyun kept back {report.kept}" in "\n".join(report.lines())
    [owner] = {row[0] for row in rows(platform.admin(platform.database), "SELECT tableowner FROM pg_tables WHERE schemaname = 'chat'")}  # fmt: skip
    assert owner == "zhiyun"

    aside = kept.back(platform.inst, report.kept)
    assert platform.answers() == made.later
    assert platform.live() == (old, 2)
    assert contents(platform.admin(platform.database)) == before["rows"]
    assert platform.live_passages() == before["passages"]
    assert kept.discard(platform.inst, aside) == list(report.collections.values())
    assert platform.databases() == before["databases"]
    assert platform.collections() == before["collections"]
    assert platform.answers() == made.later


@pytest.mark.slow
def test_a_second_restore_after_the_first_and_a_release_after_both(made: Made, platform: Platform) -> None:
    first = in_place.restore(platform.inst, platform.inst.primary, POINT)
    platform.converse("还有人吗？")
    second = in_place.restore(platform.inst, platform.inst.primary, POINT)
    assert second.kept != first.kept
    assert platform.answers() == made.answers
    assert "还有人吗？" not in platform.messages()
    assert "还有人吗？" in platform.messages(second.kept)
    assert {one.name for one in kept.databases(platform.inst)} == {first.kept, second.kept}

    platform.write("refunds.md", SECOND.replace("30", "15"))
    (platform.folder / "invoices.md").unlink()
    result = platform.ingest()
    assert result.success, failures(result)
    assert platform.live() == (*second.collections.values(), 2)
    text = " ".join(passage["text"] for passage in platform.live_passages())
    assert "15 天" in text
    assert "30 天" not in text
    assert "7 天" not in text
    assert "发票" not in text
    [(added,)] = rows(platform.database_url, "SELECT counts->>'added' FROM knowledge.releases WHERE number = 2")
    assert added == "1"  # only what was edited


@pytest.mark.slow
def test_the_vector_store_follows_a_database_alone_and_the_next_release_holds_just_what_the_documents_say(
    made: Made, platform: Platform, no_embedding: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = platform.live()[0]
    report = in_place.restore(platform.inst, platform.inst.primary, POINT, ["database"])
    assert report.collections == {}
    assert report.files is None
    assert platform.live() == (old, 1)
    assert platform.answers() == made.answers
    assert contents(platform.admin(platform.database)) == made.rows
    assert later_points(platform) == []
    monkeypatch.undo()
    for name, value in platform.environment.items():
        monkeypatch.setenv(name, value)
    platform.write("refunds.md", SECOND.replace("30", "15"))
    (platform.folder / "invoices.md").unlink()
    result = platform.ingest()
    assert result.success, failures(result)
    assert platform.live() == (old, 2)
    text = " ".join(passage["text"] for passage in platform.live_passages())
    assert "15 天" in text
    assert "30 天" not in text
    assert "发票" not in text


def prune(platform: Platform) -> None:
    collection, _ = platform.live()
    points, _ = platform.client.scroll(collection, limit=1000)
    gone = [point.id for point in points if (point.payload or {})["removed_in"] == 2]
    assert len(gone) == 2  # the edited document, and the one that was deleted
    platform.client.delete(collection, gone)


def lose(platform: Platform) -> None:
    platform.client.delete_collection(platform.live()[0])


@pytest.mark.parametrize("damage", [prune, lose])
def test_points_that_are_gone_are_written_from_the_database_without_embedding(
    made: Made, platform: Platform, no_embedding: None, damage: Callable[[Platform], None]
) -> None:
    damage(platform)
    report = in_place.restore(platform.inst, platform.inst.primary, POINT, ["database"])
    assert any("written again from the database" in note for note in report.notes)
    assert platform.answers() == made.answers
    assert platform.live()[1] == 1
    assert later_points(platform) == []


@pytest.mark.slow
def test_a_number_that_was_given_again_is_not_taken_for_the_release_that_had_it_before(
    made: Made, platform: Platform
) -> None:
    report = in_place.restore(platform.inst, platform.inst.primary, POINT, ["database"])
    # As many passages as the release 2 that was live before, and others.
    platform.write("refunds.md", SECOND.replace("30", "15"))
    result = platform.ingest()
    assert result.success, failures(result)
    again = platform.live_passages()
    assert platform.live()[1] == 2
    aside = kept.back(platform.inst, report.kept)
    assert len(platform.live_passages()) == len(again)
    assert platform.answers() == made.later
    kept.back(platform.inst, aside)
    assert platform.live_passages() == again


@pytest.mark.slow
def test_a_restore_that_ended_before_later_points_were_forgotten_does_not_bring_them_back(platform: Platform) -> None:
    old = platform.live()[0]
    in_place.restore(platform.inst, platform.inst.primary, POINT, ["database"])
    # As if it had been killed there: points of a release 2 that the record does not know.
    point = platform.client.scroll(old, limit=1, with_vectors=True)[0][0]
    payload = {**(point.payload or {}), "added_in": 2, "text": "三十天"}
    foreign = "00000000-0000-4000-8000-000000000001"
    platform.client.upsert(old, [{"id": foreign, "vector": point.vector, "payload": payload}])  # type: ignore[list-item]
    result = platform.ingest()
    assert result.success, failures(result)
    assert platform.live()[1] == 2
    assert "三十天" not in " ".join(passage["text"] for passage in platform.live_passages())


@pytest.mark.slow
def test_vectors_alone_are_brought_up_to_a_newer_database_each_time(
    made: Made, platform: Platform, no_embedding: None
) -> None:
    live = [platform.live()[0]]
    before = contents(platform.admin(platform.database))
    passages = platform.live_passages()
    for _ in range(2):  # the second time the record has another name for the collection than the point
        platform.client.delete(live[-1], [platform.client.scroll(live[-1], limit=1)[0][0].id])
        report = in_place.restore(platform.inst, platform.inst.primary, POINT, ["vectors"])
        assert report.kept == ""
        assert platform.live() == (report.collections[live[0]], 2)
        assert platform.live()[0] not in live
        assert platform.live_passages() == passages
        assert platform.answers() == made.later
        live.append(platform.live()[0])
    now = contents(platform.admin(platform.database))
    assert now == renamed(before, {live[0]: live[-1]})
    assert platform.databases() == {platform.database, f"{platform.database}_dagster"}
    assert "发票在哪里开？" in platform.messages()


@pytest.mark.slow
def test_files_alone_leave_newer_ones_and_everything_else_alone_until_told(platform: Platform) -> None:
    before = platform.state()
    (platform.folder / "plans.md").unlink()
    report = in_place.restore(platform.inst, platform.inst.primary, POINT, ["files"])
    assert report.files is not None
    assert (report.files.written, report.files.kept_newer) == (2, 1)
    assert (platform.folder / "refunds.md").read_text() == SECOND
    after = platform.state()
    assert {**after, "files": None} == {**before, "files": None}
    assert not any("fence" in line for line in platform.steps.said)  # customers notice nothing
    in_place.restore(platform.inst, platform.inst.primary, POINT, ["files"], overwrite_files=True)
    assert (platform.folder / "refunds.md").read_text() == FIRST
    assert (platform.folder / "invoices.md").exists()  # the point does not have it


@pytest.mark.slow
def test_beside_under_a_name_nothing_live_is_touched(
    made: Made, platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    before = platform.state()
    name = f"{platform.database}_look"
    report = in_place.restore(platform.inst, platform.inst.primary, POINT, into=name)
    after = platform.state()
    assert after["databases"] == before["databases"] | {name}
    assert after["collections"] == before["collections"] | set(report.collections.values())
    assert {key: value for key, value in after.items() if key not in ("databases", "collections")} == {
        key: value for key, value in before.items() if key not in ("databases", "collections")
    }
    assert contents(platform.admin(name)) == made.rows
    [collection] = report.collections.values()
    assert collection == f"{name}_{before['live'][0]}"
    assert platform.client.count(collection).count == len(made.passages)
    assert (work / name / "docs" / "refunds.md").read_text() == FIRST

    # What is there is not taken, whichever of the three it is.
    taken = after | {"databases": after["databases"], "collections": after["collections"]}
    for what in ("database", "collection", "folder"):
        with pytest.raises(BackupError, match=f"--into {name}"):
            in_place.restore(platform.inst, platform.inst.primary, POINT, into=name)
        assert platform.state() == taken, what
        if what == "database":
            with psycopg.connect(platform.admin(), autocommit=True) as connection:
                connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))
            taken["databases"] = before["databases"]
        elif what == "collection":
            platform.client.delete_collection(collection)
            taken["collections"] = before["collections"]
    shutil.rmtree(work / name)
    for bad in ("", "../elsewhere", f"{platform.database}_restore_20261124T031500Z", "x" * 41, platform.alias):
        if bad:
            with pytest.raises(BackupError, match="--into"):
                in_place.restore(platform.inst, platform.inst.primary, POINT, into=bad)
    assert platform.state() == before
    assert list(work.iterdir()) == []


@pytest.mark.slow
def test_a_database_that_was_dropped_comes_back(made: Made, platform: Platform) -> None:
    with psycopg.connect(platform.admin(), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(platform.database)))
    report = in_place.restore(platform.inst, platform.inst.primary, POINT, ["database"])
    assert report.kept == ""
    assert contents(platform.admin(platform.database)) == made.rows
    assert platform.answers() == made.answers


@pytest.mark.slow
def test_a_point_of_an_earlier_release_gets_the_tables_that_the_services_expect(platform: Platform) -> None:
    platform.run("DROP SCHEMA operations CASCADE")
    platform.run("UPDATE schema_version SET version_num = '0001'")
    earlier = steps.make(platform.inst, "2026-11-25T031500Z", "hand").manifest
    assert earlier.database("platform").migration == "0001"
    migrate(platform.database_url)
    report = in_place.restore(platform.inst, platform.inst.primary, earlier.id, ["database"])
    assert any("from schema 0001" in note for note in report.notes)
    query = "SELECT tableowner FROM pg_tables WHERE schemaname = 'operations'"
    assert {row[0] for row in rows(platform.database_url, query)} == {"zhiyun"}
    # And one of a later release than this is refused, with everything as it was.
    platform.run("UPDATE schema_version SET version_num = '9999'")
    later = steps.make(platform.inst, "2026-11-26T031500Z", "hand").manifest
    platform.run("UPDATE schema_version SET version_num = '0002'")
    before = platform.state()
    with pytest.raises(BackupError, match="schema 9999"):
        in_place.restore(platform.inst, platform.inst.primary, later.id, ["database"])
    assert platform.state() == before


@pytest.mark.slow
def test_a_store_that_others_use_too_is_not_set_back_with_ours(platform: Platform) -> None:
    platform.client.create_collection("shop_v1", vectors_config={})
    platform.client.update_collection_aliases(
        [{"create_alias": {"collection_name": "shop_v1", "alias_name": "shop"}}]  # type: ignore[list-item]
    )
    point = steps.make(platform.inst, "2026-11-25T031500Z", "hand").manifest
    assert json.dumps(point.vectors.aliases, sort_keys=True).count("shop") == 2
    report = in_place.restore(platform.inst, platform.inst.primary, point.id)
    assert platform.aliases()["shop"] == "shop_v1"
    assert "shop_v1" not in report.collections
    assert any("shop_v1 is not of this knowledge base" in note for note in report.notes)
