"""Places of objects, as operators write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from objects.places import Place, open_store, parse_places
from zhiyun.settings import S3Settings, SettingsError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def places(text: str, default: str = "backups") -> list[tuple[str, str]]:
    return [(place.name, place.url) for place in parse_places(text, "BACKUP_STORES", default)]


def test_places_are_folders_and_buckets_with_names(here: Path) -> None:
    assert places("") == places("  ") == [("primary", f"file://{here}/backups")]
    assert places("/mnt/a") == [("primary", "file:///mnt/a")]
    assert places("/mnt/a/, file:///mnt/b%20c ,s3://bucket/some/prefix/,s3://other, off-site = 远方/副本") == [
        ("primary", "file:///mnt/a"),
        ("b c", "file:///mnt/b c"),
        ("prefix", "s3://bucket/some/prefix"),
        ("other", "s3://other"),
        ("off-site", f"file://{here}/远方/副本"),
    ]
    assert places("s3://bucket/year=2026") == [("primary", "s3://bucket/year=2026")]
    assert places("near=s3://bucket") == [("near", "s3://bucket")]


def test_the_first_may_be_named_like_the_others(here: Path) -> None:
    assert parse_places("", "BACKUP_FILES", "docs", first="") == [Place("docs", f"file://{here}/docs")]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a,", "empty part"),
        ("=a", "empty part"),
        ("a=", "empty part"),
        ("x,primary=y", "both be named 'primary'"),
        ("x,a/b,c/b", "both be named 'b'"),
        ("x,again=./x", "the same place"),
        ("s3://bucket/p,other=s3://bucket/p/", "the same place"),
        ("x,again=link", "the same place"),
        ("a/b=c", "without a slash"),
        ("x,/", "needs a name"),
        ("gs://bucket", "not known"),
        ("s3://", "not `s3://bucket/prefix`"),
        ("s3://bucket/../x", "not `s3://bucket/prefix`"),
        ("s3://key:hunter2@bucket", "S3_ACCESS_KEY_ID"),
        ("file://host/x", "no folder"),
    ],
)
def test_what_cannot_be_read_is_one_line_that_names_the_variable(here: Path, text: str, why: str) -> None:
    (here / "x").mkdir()
    (here / "link").symlink_to(here / "x")
    with pytest.raises(SettingsError, match=why) as raised:
        places(text)
    assert str(raised.value).startswith("BACKUP_STORES=")
    assert "\n" not in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_a_store_is_opened_without_being_looked_at(here: Path) -> None:
    for text in ("backups", "s3://bucket/prefix", "s3://bucket"):
        [place] = parse_places(text, "BACKUP_STORES", "")
        store = open_store(place, S3Settings(), "BACKUP_STORES")
        assert (store.name, store.url) == (place.name, place.url)
    assert list(here.iterdir()) == []
