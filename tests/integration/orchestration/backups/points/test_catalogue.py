"""The catalogue: what a store has is listed as it is, and one damaged point hides no other."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from objects.folder import FolderObjects
from objects.s3 import S3Objects
from objects.store import ObjectStore, ObjectStoreError
from orchestration.backups.points.catalogue import (
    find,
    merge,
    newest_verified,
    points,
    write_failure,
    write_manifest,
    write_verification,
)
from orchestration.backups.points.listing import as_table, as_text
from orchestration.backups.points.retention import Policy, prune
from orchestration.backups.recovery_point import (
    BackupError,
    PointDamaged,
    Verification,
    encode_manifest,
    failure_key,
    manifest_key,
    verification_key,
)
from orchestration.backups.units import age_text, size_text
from tests.support.backups.recovery_points import NIGHT, MemoryObjects, add_failure, add_point, assert_whole

DAY = timedelta(days=1)


@pytest.fixture
def store(tmp_path: Path) -> FolderObjects:
    return FolderObjects("primary", tmp_path / "store")


def path(store: FolderObjects, key: str) -> Path:
    return Path(store.url.removeprefix("file://")) / key


def states(store: FolderObjects) -> list[tuple[str, str]]:
    return [(point.id, point.state) for point in points(store)]


def test_points_are_listed_newest_first_with_their_states(store: FolderObjects) -> None:
    assert points(store) == []
    add_point(store, "2026-11-22", "verified", NIGHT - 3 * DAY)
    add_point(store, "2026-11-23", "failed", NIGHT - 2 * DAY)
    add_failure(store, "2026-11-24", NIGHT - DAY, "pg_dump ended with 1")
    add_point(store, "2026-11-25", "complete", NIGHT, {"a.md": b"a"})
    store.put("points/2026-11-25T010000Z/ab12/globals.sql.zst", [b"a try that is under way"])
    store.put("points/lost+found/thing", [b"not ours"])
    there = points(store)
    assert [(point.id, point.state, point.reason) for point in there] == [
        ("2026-11-25", "complete", ""),
        ("2026-11-24", "failed", "pg_dump ended with 1"),
        ("2026-11-23", "failed", "a byte was flipped"),
        ("2026-11-22", "verified", ""),
    ]
    newest, failure, _, oldest = there
    assert newest.manifest
    assert (newest.has_data, failure.has_data) == (True, False)
    assert newest.size == newest.manifest.size > 0
    assert oldest.verified_at == NIGHT - 3 * DAY + timedelta(minutes=9)
    assert newest_verified(there) == oldest == find(store, "latest")
    assert newest.stores == {"primary": "complete"}


def test_a_verification_counts_only_for_the_manifest_that_lies_there(store: FolderObjects) -> None:
    manifest = add_point(store, "2026-11-25")
    assert states(store) == [("2026-11-25", "verified")]
    write_manifest(store, add_point(MemoryObjects(), "2026-11-25", made_at=NIGHT + timedelta(seconds=1)))
    assert states(store) == [("2026-11-25", "complete")]
    sha256 = write_manifest(store, manifest)
    assert states(store) == [("2026-11-25", "verified")]  # the same bytes: what was verified is there
    assert points(store)[0].manifest_sha256 == sha256
    write_verification(store, Verification("2026-11-25", sha256, NIGHT, "failed", "s3://u:geheim@h is damaged"))
    assert points(store)[0].reason == "s3://u:***@h is damaged"
    path(store, verification_key("2026-11-25")).write_bytes(b"\xff{")
    assert states(store) == [("2026-11-25", "complete")]


@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "rubbish", "binary", "list", "another's", "later"])
def test_a_manifest_that_cannot_be_read_is_a_failed_point_with_a_reason(store: FolderObjects, harm: str) -> None:
    add_point(store, "2026-11-24", made_at=NIGHT - DAY)
    manifest = add_point(store, "2026-11-25")
    file = path(store, manifest_key("2026-11-25"))
    data = file.read_bytes()
    changed = {
        "flip": data.replace(b"18.1", b"18.2"),
        "cut": data[: len(data) // 2],
        "empty": b"",
        "rubbish": b"not json",
        "binary": bytes(range(256)),
        "list": b"[1, 2]",
        "another's": path(store, manifest_key("2026-11-24")).read_bytes(),
        "later": encode_manifest(manifest).replace(b'"format": 1', b'"format": 2'),
    }[harm]
    assert changed != data
    file.write_bytes(changed)
    bad, good = points(store)
    if bad.id != "2026-11-25":
        bad, good = good, bad
    assert (bad.state, good.state) == ("failed", "verified")
    assert manifest_key("2026-11-25") in bad.reason
    assert bad.manifest is None
    assert bad.has_data
    assert bad.size > 0
    assert bad.later == (harm == "later")
    assert find(store, "latest") == good
    with pytest.raises(BackupError if harm == "later" else PointDamaged) as error:
        find(store, "2026-11-25")
    assert str(error.value) == bad.reason


def test_any_flipped_byte_of_a_manifest_is_found_or_changes_nothing(store: FolderObjects) -> None:
    manifest = add_point(store, "2026-11-25")
    file = path(store, manifest_key("2026-11-25"))
    data = file.read_bytes()
    for at in range(0, len(data), 11):
        file.write_bytes(data[:at] + bytes([data[at] ^ 0x04]) + data[at + 1 :])
        [point] = points(store)
        assert point.state != "verified"
        assert point.manifest in (None, manifest)


def test_a_point_is_asked_for_by_its_id(store: FolderObjects) -> None:
    with pytest.raises(BackupError, match=r"has no verified recovery point\. Nothing was changed"):
        find(store, "latest")
    add_point(store, "2026-11-25", "complete")
    add_failure(store, "2026-11-24", NIGHT - DAY, "pg_dump ended with 1")
    with pytest.raises(BackupError, match="2026-11-25 is there, but not verified"):
        find(store, "latest")
    assert find(store, "2026-11-25").manifest
    with pytest.raises(BackupError, match="was never completed: pg_dump ended with 1"):
        find(store, "2026-11-24")
    with pytest.raises(BackupError, match="zhiyun backup list"):
        find(store, "2026-11-23")
    for wrong in ("", "newest", "../2026-11-25", "2026-11-25/"):
        with pytest.raises(BackupError, match="is no recovery point"):
            find(store, wrong)


def test_a_point_that_succeeds_after_all_forgets_its_failure(store: FolderObjects) -> None:
    add_failure(store, "2026-11-25", NIGHT)
    assert states(store) == [("2026-11-25", "failed")]
    add_point(store, "2026-11-25")
    assert states(store) == [("2026-11-25", "verified")]
    assert store.stat(failure_key("2026-11-25")) is None
    # A failure beside a manifest takes nothing from the point.
    add_failure(store, "2026-11-25", NIGHT)
    assert states(store) == [("2026-11-25", "verified")]


def test_a_failure_is_written_without_secrets_and_never_fails_itself(store: FolderObjects) -> None:
    assert write_failure(store, "2026-11-25", "postgresql://zhiyun:geheim@db:5432 does not answer")
    assert "geheim" not in path(store, failure_key("2026-11-25")).read_text()
    path(store, failure_key("2026-11-25")).write_bytes(b"{")
    assert states(store) == [("2026-11-25", "failed")]
    gone = MemoryObjects()
    gone.unreachable = "does not answer"
    assert not write_failure(gone, "2026-11-25", "full")
    with pytest.raises(ObjectStoreError):
        points(gone)


def test_the_points_of_several_stores_are_one_list() -> None:
    primary, offsite = MemoryObjects("primary"), MemoryObjects("offsite")
    add_point(primary, "2026-11-25", "complete")
    add_point(offsite, "2026-11-25", "verified")
    add_point(primary, "2026-11-24", "verified", NIGHT - DAY)
    add_failure(offsite, "2026-11-23", NIGHT - 2 * DAY)
    merged = merge([points(primary), points(offsite)])
    assert [(point.id, point.state, dict(point.stores)) for point in merged] == [
        ("2026-11-25", "verified", {"primary": "complete", "offsite": "verified"}),
        ("2026-11-24", "verified", {"primary": "verified"}),
        ("2026-11-23", "failed", {"offsite": "failed"}),
    ]
    assert "primary complete, offsite verified" in as_text(merged, NIGHT)


def test_a_list_can_be_read_by_people(store: FolderObjects) -> None:
    assert as_text([]) == as_table([]) == "There is no recovery point."
    add_point(store, "2026-11-25")
    add_failure(store, "2026-11-24", NIGHT - DAY, "a | b\nc")
    text = as_text(points(store), NIGHT + timedelta(hours=3))
    head, first, second = text.splitlines()
    assert first.split()[:2] == ["2026-11-25", "verified"]
    assert "3 h" in first
    assert second.endswith("a | b c")
    assert head.index("state") == first.index("verified") == second.index("failed")
    table = as_table(points(store), NIGHT).splitlines()
    assert len(table) == 4
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1


def test_sizes_and_ages() -> None:
    assert [size_text(n) for n in (0, 950, 1_234, 99_960, 1_234_567_890, 150e9, 5e15)] == [
        "0 B", "950 B", "1.2 kB", "100 kB", "1.2 GB", "150 GB", "5000.0 TB",
    ]  # fmt: skip
    assert [age_text(timedelta(minutes=n)) for n in (0, 4, 180, 26 * 60, 12 * 1440, -90)] == [
        "0 min", "4 min", "3 h", "26 h", "12 d", "in the future",
    ]  # fmt: skip


def test_nothing_in_the_words_about_a_point_needs_this_program(store: FolderObjects) -> None:
    add_point(store, "2026-11-25", made_at=datetime(2026, 11, 24, 18, 30, tzinfo=UTC))
    said = json.loads(path(store, manifest_key("2026-11-25")).read_text())
    assert said["manifest"]["made_at"] == "2026-11-24T18:30:00Z"
    assert json.loads(path(store, verification_key("2026-11-25")).read_text())["result"] == "verified"


@pytest.mark.parametrize("place", ["folder", "s3"])
def test_points_are_listed_and_pruned_in_real_stores(
    place: str, store: FolderObjects, request: pytest.FixtureRequest
) -> None:
    there: ObjectStore = store
    if place == "s3":
        there = S3Objects(
            "primary", request.getfixturevalue("s3_bucket"), "kept", request.getfixturevalue("s3_settings")
        )
    now = datetime.now(UTC)
    for age in (50, 40, 10, 1, 0):
        made_at = now - age * DAY
        files = {"all.md": b"all", "own.md": b"%d" % age, **{f"{n}.md": b"%d %d" % (age // 45, n) for n in range(5)}}
        add_point(there, made_at.strftime("%Y-%m-%d"), "verified", made_at, files)
    there.put("points/2026-01-01/ab/globals.sql.zst", [b"left by a try"])
    before = len(list(there.list("files/")))
    told = prune(there, Policy(), now + 2 * DAY, dry_run=True)
    assert len(list(there.list("files/"))) == before
    done = prune(there, Policy(), now + 2 * DAY)
    assert (done.expired, done.orphans, done.bytes_freed) == (told.expired, told.orphans, told.bytes_freed)
    assert not done.problems
    assert len(done.expired) == 2
    assert done.orphans == 8  # the files of one point, the own file of the other, and what the try left
    assert len(assert_whole(there)) == 3
    assert len(list(there.list("files/"))) == before - 7
    assert prune(there, Policy(), now + 2 * DAY).orphans == 0
