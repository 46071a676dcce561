"""Backup, restore and ingestion keep out of each other's way, and say who is at work."""

from __future__ import annotations

import threading
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from knowledge.database import AnotherWriter, DatabaseUnavailable, connect, writer
from orchestration.backups.making import steps
from orchestration.backups.points import catalogue
from orchestration.backups.restore import in_place
from orchestration.exclusion import Busy, exclusive
from tests.support.backups.backed_up import ALIAS, Platform
from tests.support.backups.databases import value
from tests.support.backups.small_points import NEXT, POINT, installed, listed, make, one_sentence, untouched
from tests.support.knowledge_base import KnowledgeBase, failures
from tests.support.waiting import until
from zhiyun.settings import DatabaseSettings

pytestmark = pytest.mark.slow


def test_while_a_backup_is_under_way_backup_restore_and_ingestion_say_so(
    platform: Platform, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, setting in platform.environment().items():
        monkeypatch.setenv(name, setting)
    inst, outcome = installed(platform, store), list[Any]()
    admin = platform.cluster.url(platform.database, "postgres")
    dumping = f"SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = '{platform.database}' AND application_name = 'pg_dump'"
    with psycopg.connect(admin) as migration:  # holds the backup up, as a long migration does
        migration.execute("LOCK TABLE bulk IN ACCESS EXCLUSIVE MODE")
        first = threading.Thread(target=lambda: outcome.append(steps.make(inst, NEXT, "schedule")))
        first.start()
        until(lambda: value(admin, dumping), 60)
        monkeypatch.setattr(steps, "WAIT", 0.0)
        monkeypatch.setattr(in_place, "WAIT", 0.0)
        with untouched(platform):
            with pytest.raises(Busy) as caught:
                steps.make(inst, "2026-01-03", "hand")
            one_sentence(str(caught.value), f"backup of {NEXT}", "backup of 2026-01-03")
            with pytest.raises(Busy) as caught:
                in_place.restore(inst, inst.primary, POINT)
            one_sentence(str(caught.value), f"backup of {NEXT}", f"restore of {POINT}")
            base = KnowledgeBase(
                platform.documents, platform.cluster.url(platform.database), platform.qdrant_url, ALIAS
            )
            result = base.ingest()
            assert not result.success
            assert f"backup of {NEXT}" in failures(result)
        migration.rollback()
        first.join(120)
    [made] = outcome
    assert made.good
    assert {point.id: point.state for point in catalogue.points(inst.primary)} == {POINT: "verified", NEXT: "verified"}


def test_what_was_captured_while_nobody_kept_ingestion_out_becomes_no_point(platform: Platform, store: Path) -> None:
    inst, outcome = installed(platform, store), list[str]()
    admin = platform.cluster.url(platform.database, "postgres")
    dumping = f"SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = '{platform.database}' AND application_name = 'pg_dump'"

    def attempt() -> None:
        try:
            steps.make(inst, NEXT, "schedule")
        except DatabaseUnavailable as error:
            outcome.append(str(error))

    with platform.settings(), psycopg.connect(admin) as migration:
        migration.execute("LOCK TABLE bulk IN ACCESS EXCLUSIVE MODE")
        backup = threading.Thread(target=attempt)
        backup.start()
        until(lambda: value(admin, dumping), 60)
        migration.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name = %s",
            (f"zhiyun backup of {NEXT}",),
        )
        migration.rollback()
        backup.join(120)
    [told] = outcome
    one_sentence(told, "DATABASE_URL", "went away")
    assert (listed(inst, NEXT).state, listed(inst, NEXT).reason) == ("failed", told)
    assert listed(inst).state == "verified"


@pytest.mark.parametrize("other", ["restore", "ingestion"])
def test_while_another_is_under_way_a_backup_says_so(
    platform: Platform, store: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    monkeypatch.setattr(steps, "WAIT", 0.0)
    inst = installed(platform, store)
    with ExitStack() as held:
        if other == "restore":
            held.enter_context(exclusive(inst.database.admin, f"restore of {POINT}"))
        else:
            url = DatabaseSettings(url=platform.cluster.url(platform.database))
            held.enter_context(writer(held.enter_context(closing(connect(url)))))
        with untouched(platform), platform.settings(), pytest.raises((Busy, AnotherWriter)) as caught:
            steps.make(inst, NEXT, "hand")
        one_sentence(str(caught.value), f"restore of {POINT}" if other == "restore" else "zhiyun ingestion")
    make(platform, inst, NEXT)
