"""The right key is asked for by its fingerprint, can be changed, and is never shown."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from objects.folder import FolderObjects
from orchestration.backups.recovery_point import BackupError, Blob, FilesPart, Manifest, PostgresPart, VectorsPart
from orchestration.backups.streams import blobs
from orchestration.backups.streams.encryption import Keys, WrongKey, check_key, generate
from tests.support.backups.chunks import DATA, told_in_one_sentence
from zhiyun.settings import BackupSettings, SettingsError


def test_a_name_says_whether_an_object_is_encrypted(store: FolderObjects, keys: Keys) -> None:
    with pytest.raises(ValueError, match="age"):
        blobs.write_blob(store, "dump.age", [DATA])
    with pytest.raises(ValueError, match="age"):
        blobs.write_blob(store, "dump", [DATA], keys=keys)


def manifest(key: str) -> Manifest:
    blob = Blob("x", 0, "", 0)
    return Manifest(
        1, "2026-11-24", datetime.now(UTC), "hand", "0.1", PostgresPart((), blob, ""), VectorsPart("qdrant", "1", (), {}),
        FilesPart(blob, (), 0, 0), key=key,
    )  # fmt: skip


def other_keys() -> Keys:
    loaded = Keys.load(BackupSettings(key=generate()))
    assert loaded
    return loaded


def test_another_key_is_told_with_both_fingerprints(store: FolderObjects, keys: Keys) -> None:
    other = other_keys()
    check_key(keys, manifest(keys.fingerprint))
    check_key(None, manifest(""))
    check_key(keys, manifest(""))
    for used in (other, None):
        with pytest.raises(BackupError, match="BACKUP_KEY_FILE") as raised:
            check_key(used, manifest(keys.fingerprint))
        assert keys.fingerprint in str(raised.value)
        assert used is None or used.fingerprint in str(raised.value)


def test_an_object_of_another_key_is_not_called_damaged(store: FolderObjects, keys: Keys) -> None:
    other = other_keys()
    blob = blobs.write_blob(store, "dump.age", [DATA], keys=keys)
    with pytest.raises(WrongKey, match=other.fingerprint) as raised:
        list(blobs.read_blob(store, blob, keys=other))
    told_in_one_sentence(raised.value, f"{store.url}/dump.age", "BACKUP_KEY")
    with pytest.raises(BackupError, match="BACKUP_KEY_FILE"):
        list(blobs.read_blob(store, blob))


def test_a_key_file_is_read_with_its_comments(tmp_path: Path, keys: Keys) -> None:
    file = tmp_path / "key.txt"
    text = generate()
    file.write_text(text + "\n# a comment\n\n")
    loaded = Keys.load(BackupSettings(key_file=str(file)))
    assert loaded
    assert f"# public key: {loaded.fingerprint}\n" in text
    assert Keys.load(BackupSettings()) is None


def test_a_key_can_be_changed(tmp_path: Path, store: FolderObjects) -> None:
    """The new key goes to the top of the file; what the old one encrypted is still read."""
    old, new = generate(), generate()
    (tmp_path / "old").write_text(old)
    (tmp_path / "both").write_text(new + old)
    before, after = (Keys.load(BackupSettings(key_file=str(tmp_path / name))) for name in ("old", "both"))
    assert before
    assert after
    blob = blobs.write_blob(store, "dump.age", [DATA], keys=before)
    check_key(after, manifest(before.fingerprint))
    assert b"".join(blobs.read_blob(store, blob, keys=after)) == DATA
    assert after.fingerprint != before.fingerprint
    newer = blobs.write_blob(store, "newer.age", [DATA], keys=after)
    with pytest.raises(WrongKey):
        list(blobs.read_blob(store, newer, keys=before))


@pytest.mark.parametrize(
    "text",
    ["", "# only a comment\n", "AGE-SECRET-KEY-1BUTNOTREALLY", "hunter2", "age-encryption.org/v1\n-> scrypt x 18\n"],
)
def test_a_key_that_is_none_is_one_line_and_not_repeated(tmp_path: Path, text: str) -> None:
    file = tmp_path / "key.txt"
    file.write_text(text)
    with pytest.raises(SettingsError, match=r"^BACKUP_KEY_FILE=") as raised:
        Keys.load(BackupSettings(key_file=str(file)))
    refusals = [str(raised.value)]
    if text:
        with pytest.raises(SettingsError, match=r"^BACKUP_KEY:") as raised:
            Keys.load(BackupSettings(key=text))
        refusals.append(str(raised.value))
    for refusal in refusals:
        assert "\n" not in refusal
        assert "hunter2" not in refusal
        assert "NOTREALLY" not in refusal


def test_a_key_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "none", tmp_path, tmp_path / "binary"):
        with pytest.raises(SettingsError, match=r"^BACKUP_KEY_FILE=") as raised:
            Keys.load(BackupSettings(key_file=str(path)))
        assert "\n" not in str(raised.value)
    with pytest.raises(SettingsError, match="both set"):
        Keys.load(BackupSettings(key="x", key_file="y"))


def test_a_key_does_not_show_itself() -> None:
    text = generate()
    loaded = Keys.load(BackupSettings(key=text))
    with contextlib.suppress(TypeError):
        assert text.splitlines()[-1] not in f"{loaded} {loaded!r} {vars(loaded)}"
