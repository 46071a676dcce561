"""A night in Dagster: a recovery point, copied, verified, and what is too old expired; and the same by hand."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import psycopg
import pytest

from embedded.services.postgres import Cluster
from knowledge.database import AnotherWriter, connect, writer
from objects.folder import FolderObjects
from orchestration.backups.points import catalogue
from orchestration.backups.recovery_point import manifest_key
from orchestration.definitions import defs
from orchestration.exclusion import exclusive
from orchestration.schedules import nightly_recovery_point
from tests.support.knowledge_base import KnowledgeBase, failures
from tests.support.vectors.vector_store import embedded_store
from zhiyun.settings import DatabaseSettings, load

NIGHT = "2026-11-24"


@pytest.fixture(scope="module")
def qdrant_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A vector store of this file's own: a night takes every collection that there is, those of other tests too."""
    with embedded_store(tmp_path_factory.mktemp("vectors")) as url:
        yield url


@pytest.fixture
def backups(
    knowledge_base: KnowledgeBase, postgres_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A published knowledge base; gives the folder with the stores `primary` and `offsite`."""
    knowledge_base.write("refunds.md", "# 退款\n\n付款后 7 天内可以全额退款。\n")
    result = knowledge_base.ingest()
    assert result.success, failures(result)
    name = knowledge_base.database_url.rpartition("/")[2]
    for variable, value in {
        "DATABASE_ADMIN_URL": postgres_cluster.url(name, "postgres"),
        "DAGSTER_DATABASE_URL": postgres_cluster.url("dagster"),
        "BACKUP_STORES": f"{tmp_path / 'primary'},{tmp_path / 'offsite'}",
    }.items():
        monkeypatch.setenv(variable, value)
    return tmp_path


def night(key: str = NIGHT) -> dg.ExecuteInProcessResult:
    return defs.resolve_job_def("nightly_backup").execute_in_process(
        instance=dg.DagsterInstance.ephemeral(), raise_on_error=False, partition_key=key
    )


def by_hand(job: str, **config: Any) -> dg.ExecuteInProcessResult:
    """A job of the launchpad; `config` is for its one op."""
    definition = defs.resolve_job_def(job)
    [op] = definition.nodes
    return definition.execute_in_process(
        instance=dg.DagsterInstance.ephemeral(),
        raise_on_error=False,
        run_config={"ops": {op.name: {"config": config}}} if config else {},
    )


def states(folder: Path) -> dict[str, str]:
    return {point.id: point.state for point in catalogue.points(FolderObjects("primary", folder))}


def test_a_night_makes_a_verified_point_in_every_store_and_a_second_run_another(backups: Path) -> None:
    result = night()
    assert result.success, failures(result)
    assert [(check.check_name, check.passed) for check in result.get_asset_check_evaluations()] == [
        ("recovery_point_verified", True)
    ]
    assert states(backups / "primary") == states(backups / "offsite") == {NIGHT: "verified"}
    first = (backups / "primary" / manifest_key(NIGHT)).read_bytes()

    again = night()
    assert again.success, failures(again)
    assert states(backups / "primary") == {NIGHT: "verified"}
    assert (backups / "primary" / manifest_key(NIGHT)).read_bytes() != first


def test_a_night_whose_point_is_damaged_expires_nothing_and_the_run_says_what_is_damaged(
    backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestration.backups.making import steps

    commit = steps.commit

    def damaging(inst: Any, one: Any) -> Any:
        manifest = commit(inst, one)
        file = backups / "primary" / manifest.database("platform").dump.key
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
        return manifest

    monkeypatch.setattr(steps, "commit", damaging)
    result = night()
    assert not result.success
    [check] = result.get_asset_check_evaluations()
    assert not check.passed
    assert "postgres-platform.dump" in (check.description or "")
    assert "is damaged" in (check.description or "")
    assert result.asset_materializations_for_node("backup_retention") == []
    assert states(backups / "primary") == {NIGHT: "failed"}


def test_a_night_without_a_vector_store_is_one_sentence_and_a_failed_try(
    backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QDRANT_URL", "http://127.0.0.1:9")
    result = night()
    assert not result.success
    assert "QDRANT_URL=http://127.0.0.1:9" in failures(result)
    assert failures(result).count("\n") == 0
    assert states(backups / "primary") == {NIGHT: "failed"}


def test_the_record_in_the_database_is_what_the_stores_have(backups: Path, knowledge_base: KnowledgeBase) -> None:
    assert night().success
    rows = knowledge_base.rows("SELECT id, state, stores FROM operations.recovery_points")
    assert rows == [(NIGHT, "verified", ["offsite", "primary"])] or rows == [
        (NIGHT, "verified", ["primary", "offsite"])
    ]


def test_by_hand_a_point_is_made_listed_shown_verified_and_expired(backups: Path) -> None:
    assert by_hand("backup_now").success
    [(point, state)] = states(backups / "primary").items()
    assert state == "verified"
    assert by_hand("backup_list").success
    for job in ("backup_show", "backup_verify"):
        assert by_hand(job, point=point, store="offsite").success
    refused = by_hand("backup_show", point="2001-01-01")
    assert not refused.success
    assert "2001-01-01 is not in store 'primary'" in failures(refused)
    assert by_hand("backup_prune", dry_run=False).success
    assert states(backups / "primary") == {point: "verified"}


def test_what_is_under_way_is_told_to_whoever_is_kept_out(
    backups: Path, knowledge_base: KnowledgeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestration.backups.making import steps

    monkeypatch.setattr(steps, "WAIT", 0.0)
    with exclusive(knowledge_base.database_url, "REINDEX of everything"):
        result = by_hand("backup_now")
    assert not result.success
    assert "zhiyun REINDEX of everything" in failures(result)


def test_the_schedule_asks_for_tonight_once(monkeypatch: pytest.MonkeyPatch) -> None:
    zone = ZoneInfo("Asia/Shanghai")
    tonight = datetime.now(zone).replace(hour=2, minute=30, second=0, microsecond=0)
    with dg.instance_for_test() as instance:
        context = dg.build_schedule_context(instance=instance, scheduled_execution_time=tonight)
        request = nightly_recovery_point(context)
        assert isinstance(request, dg.RunRequest)
        assert request.partition_key == request.run_key == tonight.date().isoformat()
        late = dg.build_schedule_context(instance=instance, scheduled_execution_time=tonight.replace(year=2025))
        assert isinstance(nightly_recovery_point(late), dg.SkipReason)


def test_an_ingestion_during_a_backup_is_told_who_holds_the_knowledge_base(
    backups: Path, knowledge_base: KnowledgeBase
) -> None:
    with psycopg.connect(knowledge_base.database_url, autocommit=True) as connection:
        with (
            connect(load(DatabaseSettings), "zhiyun backup of tonight") as holder,
            writer(holder),
            connect(load(DatabaseSettings)) as other,
            pytest.raises(AnotherWriter, match="backup of tonight"),
            writer(other),
        ):
            pass
        assert connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone() == (0,)
