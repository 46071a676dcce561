"""What a restore has kept: back again whole, whatever became of its collections; deleted with no more than its own."""

from __future__ import annotations

import pytest

from orchestration.backups.recovery_point import BackupError
from orchestration.backups.restore import in_place, kept
from tests.support.backups.platforms import POINT, SECOND, Made, Platform, contents
from tests.support.knowledge_base import failures

pytestmark = pytest.mark.slow

pytest_plugins = ("tests.support.backups.platforms",)


def test_it_comes_back_after_an_ingestion_has_tidied_its_collections_away(made: Made, platform: Platform) -> None:
    before = contents(platform.admin(platform.database))
    report = in_place.restore(platform.inst, platform.inst.primary, POINT)
    platform.write("refunds.md", SECOND.replace("30", "15"))
    result = platform.ingest()
    assert result.success, failures(result)
    [old] = report.replaced
    assert old not in platform.collections()
    aside = kept.back(platform.inst, report.kept)
    assert platform.live() == (old, 2)
    assert platform.answers() == made.later
    assert contents(platform.admin(platform.database)) == before
    assert [one.name for one in kept.databases(platform.inst)] == [aside]


def test_collections_that_another_record_needs_are_not_deleted_with_it(platform: Platform) -> None:
    """After a restore of the database alone both records know the same collection."""
    old, _ = platform.live()
    first = in_place.restore(platform.inst, platform.inst.primary, POINT, ["database"])
    assert kept.discard(platform.inst, first.kept) == []
    assert platform.live() == (old, 1)
    assert platform.live_passages()
    second = in_place.restore(platform.inst, platform.inst.primary, POINT)
    third = in_place.restore(platform.inst, platform.inst.primary, POINT)
    assert kept.discard(platform.inst, third.kept) == list(second.collections.values())
    assert kept.discard(platform.inst, second.kept) == [old]
    assert platform.collections() == set(third.collections.values())
    assert platform.live_passages()


@pytest.mark.parametrize("name", ["postgres", "{live}", "{live}_dagster", "{live}_restore_20261124T031500Z", ""])
def test_what_no_restore_has_kept_is_neither_put_back_nor_deleted(platform: Platform, name: str) -> None:
    before = platform.state()
    for act in (kept.back, kept.discard):
        with pytest.raises(BackupError, match="There is no kept database"):
            act(platform.inst, name.format(live=platform.database))
    assert platform.state() == before


def test_a_return_that_fails_leaves_both_as_they_were(platform: Platform) -> None:
    report = in_place.restore(platform.inst, platform.inst.primary, POINT)
    [old] = report.replaced
    platform.client.delete_collection(old)  # so that it has to be written again under this name
    before, was = platform.state(), contents(platform.admin(report.kept))
    say = platform.steps.say

    def kill(line: str) -> None:
        say(line)
        if "not fenced" in line:  # all is written, and is to be put in force
            platform.server.process.kill()

    platform.steps.say = kill  # type: ignore[method-assign]
    with pytest.raises(Exception, match="QDRANT_URL"):
        kept.back(platform.inst, report.kept)
    platform.restart_vector_store()
    platform.steps.say = say  # type: ignore[method-assign]
    after = platform.state()
    assert {**after, "collections": None} == {**before, "collections": None}
    assert contents(platform.admin(report.kept)) == was
    kept.back(platform.inst, report.kept)
    assert platform.live()[1] == 2
