"""The file store's part of a recovery point, from real folders into a real store and back."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from objects.folder import FolderObjects
from objects.s3 import S3Objects
from objects.store import ObjectStore, ObjectStoreError
from orchestration.backups.files import capture as files_capture
from orchestration.backups.files import restore as files_restore
from orchestration.backups.files.folder import FolderFiles
from orchestration.backups.files.inventory import Entry, entries
from orchestration.backups.files.place import Files, Found
from orchestration.backups.files.restore import restore, verify
from orchestration.backups.files.sources import StoredFiles, file_sources
from orchestration.backups.recovery_point import BackupError, FilesPart, PointDamaged
from orchestration.backups.streams.encryption import Keys, generate
from tests.support.backups.recovery_points import MemoryObjects
from zhiyun.settings import BackupSettings, KnowledgeSettings, S3Settings, SettingsError

OLD = 1_700_000_000 * 10**9 + 123_456_789  # a time with nanoseconds


def write(path: Path, content: str | bytes, mtime_ns: int = OLD) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    os.utime(path, ns=(mtime_ns, mtime_ns))
    return path


def tree(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Path -> (content, time) of all files below a folder."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    write(folder / "说明.md", "# 说明\n" * 100)
    write(folder / "a" / "b.txt", "second", OLD + 1)
    write(folder / "a.txt", "first", OLD + 2)
    write(folder / "a" / "same.txt", "first", OLD + 3)
    write(folder / "empty", "")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> FolderObjects:
    return FolderObjects("primary", tmp_path / "store")


@pytest.fixture(params=["plain", "encrypted"])
def keys(request: pytest.FixtureRequest) -> Keys | None:
    return new_keys() if request.param == "encrypted" else None


def new_keys() -> Keys:
    keys = Keys.load(BackupSettings(key=generate()))
    assert keys
    return keys


def capture(
    docs: Path | list[Files], store: ObjectStore, earlier: Iterable[Entry] = (), keys: Keys | None = None, **more: bool
) -> FilesPart:
    """A point of the file store, made now."""
    sources = docs if isinstance(docs, list) else [FolderFiles("docs", docs)]
    return files_capture.capture(sources, store, f"points/2026-11-24/{os.urandom(4).hex()}/", earlier, keys, **more)


def objects(store: ObjectStore) -> dict[str, int]:
    return {item.key: item.size for item in store.list("files/")}


# --- there and back -------------------------------------------------------------------------------------------------


def test_files_come_back_with_their_content_and_time(
    tmp_path: Path, docs: Path, store: FolderObjects, keys: Keys | None
) -> None:
    part = capture(docs, store, keys=keys)
    assert (part.files, part.bytes, part.added) == (5, sum(len(c) for c, _ in tree(docs).values()), 4)
    assert part.added_bytes == sum(objects(store).values())
    assert verify(store, part, keys) == 4
    done = restore(store, part, {"docs": tmp_path / "back"}, keys=keys)
    assert (done.written, done.unchanged, done.kept_newer, done.problems) == (5, 0, 0, ())
    assert tree(tmp_path / "back") == tree(docs)
    again = restore(store, part, {"docs": tmp_path / "back"}, keys=keys)
    assert (again.written, again.unchanged) == (0, 5)


def test_the_names_in_an_encrypted_store_tell_nothing(docs: Path, store: FolderObjects) -> None:
    capture(docs, store)
    plain = {key.split("/")[2].split(".")[0] for key in objects(store)}
    first, second = FolderObjects("x", Path(f"{store.url[7:]}-x")), FolderObjects("y", Path(f"{store.url[7:]}-y"))
    capture(docs, first, keys=new_keys())
    capture(docs, second, keys=new_keys())
    names = [{key.split("/")[2].split(".")[0] for key in objects(one)} for one in (first, second)]
    assert not plain & names[0]
    assert not names[0] & names[1]


def test_names_that_are_no_text_and_names_that_look_escaped_come_back(tmp_path: Path, store: FolderObjects) -> None:
    folder = tmp_path / "docs"
    names = [b"\xff\xfe.md", b"100%41.md", b"line\nbreak.md", "百分%25.md".encode(), b"%%41", b"%\x80"]
    for name in names:
        write(Path(os.fsdecode(os.fsencode(folder) + b"/" + name)), name)
    part = capture(folder, store)
    assert not part.problems
    restore(store, part, {"docs": tmp_path / "back"})
    assert sorted(os.fsencode(path.name) for path in (tmp_path / "back").iterdir()) == sorted(names)
    assert tree(tmp_path / "back") == tree(folder)


# --- every night ----------------------------------------------------------------------------------------------------


class Counting(FolderFiles):
    """A folder that knows what was read of it."""

    def __init__(self, folder: Path) -> None:
        super().__init__("docs", folder)
        self.reads: list[str] = []

    def read(self, found: Found) -> Iterator[bytes]:
        self.reads.append(found.path)
        return super().read(found)


def test_only_what_changed_is_read_and_only_new_content_is_written(
    docs: Path, store: FolderObjects, keys: Keys | None
) -> None:
    first = capture(docs, store, keys=keys)
    write(docs / "a.txt", "other", OLD + 9)
    write(docs / "new.txt", "second")
    (docs / "empty").unlink()
    source = Counting(docs)
    second = capture([source], store, entries(store, first, keys), keys)
    assert sorted(source.reads) == ["a.txt", "new.txt"]
    assert (second.files, second.added) == (5, 1)
    third = Counting(docs)
    capture([third], store, entries(store, second, keys), keys)
    assert third.reads == []
    assert verify(store, first, keys) == 4
    assert verify(store, second, keys) == 4


def test_a_file_that_was_written_just_now_is_read_again_the_next_night(docs: Path, store: FolderObjects) -> None:
    write(docs / "a.txt", "first", time.time_ns())
    first = capture(docs, store)
    source = Counting(docs)
    capture([source], store, entries(store, first))
    assert source.reads == ["a.txt"]


def test_files_are_read_again_with_a_new_key_or_when_an_object_is_missing_or_cut(
    docs: Path, store: FolderObjects
) -> None:
    old, new = new_keys(), new_keys()
    first = capture(docs, store, keys=old)
    second = capture(docs, store, entries(store, first, old), new)
    assert second.added == 4
    assert verify(store, second, new) == 4
    gone, cut = sorted(entry.object for entry in entries(store, second, new) if entry.path in ("a.txt", "a/b.txt"))
    store.delete([gone])
    path = Path(store.url.removeprefix("file://")) / cut
    path.write_bytes(path.read_bytes()[:-1])
    third = capture(docs, store, entries(store, second, new), new)
    assert third.added == 1  # an object that is there is trusted
    with pytest.raises(PointDamaged, match="is damaged"):
        verify(store, third, new)
    assert capture(docs, store, entries(store, third, new), new, check_existing=True).added == 1
    assert verify(store, third, new) == 4


def test_an_earlier_inventory_that_is_damaged_costs_reading_and_nothing_else(docs: Path, store: FolderObjects) -> None:
    first = capture(docs, store)
    path = Path(store.url.removeprefix("file://")) / first.inventory.key
    path.write_bytes(path.read_bytes()[:50])
    second = capture(docs, store, entries(store, first))
    assert second.files == 5
    assert "inventory of the point before cannot be read" in second.problems[0]
    assert verify(store, second) == 4


@pytest.mark.parametrize("gone", ["missing", "empty"])
def test_a_folder_that_is_gone_is_no_deletion(tmp_path: Path, docs: Path, store: FolderObjects, gone: str) -> None:
    other = write(tmp_path / "other" / "x", "x").parent
    sources: list[Files] = [FolderFiles("docs", docs), FolderFiles("other", other)]
    first = capture(sources, store)
    docs.rename(tmp_path / "elsewhere")
    if gone == "empty":
        docs.mkdir()
    before = {item.key for item in store.list()}
    with pytest.raises(BackupError, match=r"docs.*mounted.*No recovery point was made"):
        capture(sources, store, entries(store, first))
    assert {item.key for item in store.list()} == before
    # On the first night there is nothing to compare with: it is said, and the rest is backed up.
    part = capture(sources, store)
    assert part.files == 1
    assert any("docs" in problem for problem in part.problems) == (gone == "missing")


# --- what is no plain file ------------------------------------------------------------------------------------------


def test_links_stay_inside_and_pipes_and_sockets_are_passed_over(tmp_path: Path, store: FolderObjects) -> None:
    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # a socket's path is short
    write(folder / "real.md", "inside")
    write(tmp_path / "outside" / "secret.md", "outside")
    (folder / "link.md").symlink_to("real.md")
    (folder / "out.md").symlink_to(tmp_path / "outside" / "secret.md")
    (folder / "outdir").symlink_to(tmp_path / "outside")
    (folder / "loop").symlink_to(".")
    (folder / "dangling").symlink_to("nothing")
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
        part = capture(folder, store)
    assert [entry.path for entry in entries(store, part)] == ["link.md", "real.md"]
    assert len([problem for problem in part.problems if "link out of" in problem]) == 2
    assert any("dangling" in problem for problem in part.problems)


def test_a_file_that_cannot_be_read_is_a_sentence_and_the_others_are_there(docs: Path, store: FolderObjects) -> None:
    class Broken(FolderFiles):
        def read(self, found: Found) -> Iterator[bytes]:
            if found.path == "a.txt":
                return self._broken(found)
            return super().read(found)

        def _broken(self, found: Found) -> Iterator[bytes]:
            from orchestration.backups.files.place import FileProblem

            yield b"fir"
            raise FileProblem(f"{self.name}/{found.path} cannot be read ({os.strerror(errno.EIO).lower()}).")

    part = capture([Broken("docs", docs)], store)
    assert part.files == 4
    assert part.problems == ("docs/a.txt cannot be read (input/output error); it is not in the backup.",)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_a_sentence(docs: Path, store: FolderObjects) -> None:
    (docs / "a.txt").chmod(0)
    part = capture(docs, store)
    assert part.problems == ("docs/a.txt cannot be read (permission denied); it is not in the backup.",)


@pytest.mark.parametrize("size", [1000, files_capture.SMALL + 1], ids=["small", "large"])
@pytest.mark.parametrize("times", [1, 2, 99])
def test_a_file_that_changes_while_it_is_read_is_read_again(
    tmp_path: Path, store: FolderObjects, size: int, times: int
) -> None:
    folder = tmp_path / "docs"
    path = write(folder / "log.txt", b"x" * size)

    class Moving(FolderFiles):
        count = 0

        def read(self, found: Found) -> Iterator[bytes]:
            for number, chunk in enumerate(super().read(found)):
                if number == 0 and self.count < times:
                    self.count += 1
                    write(path, os.urandom(size), OLD + self.count)
                yield chunk

    part = capture([Moving("docs", folder)], store)
    if times < 3:
        assert (part.files, part.problems) == (1, ())
        restore(store, part, {"docs": tmp_path / "back"})
        assert tree(tmp_path / "back") == tree(folder)
    else:
        assert part.files == 0
        assert "changed each time it was read" in part.problems[0]
    assert len(objects(store)) == part.files


def test_a_store_inside_its_source_is_refused(docs: Path) -> None:
    inside = FolderObjects("primary", docs / "backups")
    with pytest.raises(BackupError, match=r"inside each other.*No recovery point was made"):
        capture(docs, inside)
    assert not (docs / "backups").exists()


# --- verification ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("harm", ["flip", "cut", "missing", "longer"])
def test_each_kind_of_damage_is_found_and_names_the_object(
    docs: Path, store: FolderObjects, keys: Keys | None, harm: str
) -> None:
    part = capture(docs, store, keys=keys)
    entry = next(entry for entry in entries(store, part, keys) if entry.path == "说明.md")
    path = Path(store.url.removeprefix("file://")) / entry.object
    data = bytearray(path.read_bytes())
    for at in range(0, len(data), 7) if harm == "flip" else [0]:
        match harm:
            case "flip":
                path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            case "cut":
                path.write_bytes(data[:-1])
            case "longer":
                path.write_bytes(data + b"\0")
            case _:
                path.unlink()
        with pytest.raises(PointDamaged) as error:
            verify(store, part, keys)
        assert entry.object in str(error.value)


def test_an_object_that_holds_something_else_is_found(docs: Path, store: FolderObjects) -> None:
    part = capture(docs, store)
    one, other = [entry for entry in entries(store, part) if entry.path in ("a.txt", "a/b.txt")]
    folder = Path(store.url.removeprefix("file://"))
    (folder / one.object).write_bytes((folder / other.object).read_bytes())
    with pytest.raises(PointDamaged, match="does not have the hash"):
        verify(store, part)


# --- restore --------------------------------------------------------------------------------------------------------


def test_newer_files_stay_unless_told_and_others_are_left_alone(
    tmp_path: Path, docs: Path, store: FolderObjects
) -> None:
    part = capture(docs, store)
    write(docs / "a.txt", "newer", OLD + 10**12)
    write(docs / "a" / "b.txt", "older", OLD - 10**12)
    write(docs / "mine.txt", "not in the point")
    done = restore(store, part, {"docs": docs})
    assert (done.written, done.unchanged, done.kept_newer) == (1, 3, 1)
    assert (docs / "a.txt").read_text() == "newer"
    assert (docs / "a" / "b.txt").read_text() == "second"
    done = restore(store, part, {"docs": docs}, overwrite=True)
    assert (done.written, done.kept_newer) == (1, 0)
    assert (docs / "a.txt").read_text() == "first"
    assert (docs / "mine.txt").read_text() == "not in the point"


def test_a_source_without_a_target_is_refused_before_anything_is_written(
    tmp_path: Path, docs: Path, store: FolderObjects
) -> None:
    part = capture([FolderFiles("a", docs), FolderFiles("docs", docs)], store)
    with pytest.raises(BackupError, match=r"no place for the files of 'docs'.*Nothing was written"):
        restore(store, part, {"a": tmp_path / "back"})
    assert not (tmp_path / "back").exists()


def test_a_damaged_object_leaves_the_file_as_it_was_and_the_others_come_back(
    tmp_path: Path, docs: Path, store: FolderObjects
) -> None:
    part = capture(docs, store)
    entry = next(entry for entry in entries(store, part) if entry.path == "说明.md")
    path = Path(store.url.removeprefix("file://")) / entry.object
    path.write_bytes(path.read_bytes()[:-5])
    there = write(tmp_path / "back" / "说明.md", "as it was", OLD - 1)
    done = restore(store, part, {"docs": tmp_path / "back"})
    assert done.written == 4
    assert len(done.problems) == 1
    assert entry.object in done.problems[0]
    assert there.read_text() == "as it was"
    assert len(tree(tmp_path / "back")) == 5  # and nothing half-written


def test_a_restore_does_not_follow_a_link_out_of_its_folder(tmp_path: Path, docs: Path, store: FolderObjects) -> None:
    part = capture(docs, store)
    (tmp_path / "back").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "back" / "a").symlink_to(tmp_path / "outside")
    done = restore(store, part, {"docs": tmp_path / "back"})
    assert done.written == 3
    assert all("leads out" in problem for problem in done.problems)
    assert not list((tmp_path / "outside").iterdir())


@pytest.mark.parametrize("path", ["../out.txt", "/etc/out.txt", "a/../../out.txt", "%2E%2E/out.txt", "a//b", "."])
def test_an_inventory_that_names_a_path_outside_writes_nothing(tmp_path: Path, path: str) -> None:
    target = FolderFiles("docs", tmp_path / "back")
    with pytest.raises(PointDamaged, match="no path of a file"):
        target.write(path, [b"x"], OLD)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_ends_the_restore_in_one_sentence(
    tmp_path: Path, docs: Path, store: FolderObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = capture(docs, store)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(BackupError, match=r"takes no more files \(no space left on device\)"):
        restore(store, part, {"docs": tmp_path / "back"})
    assert not tree(tmp_path / "back")


# --- buckets --------------------------------------------------------------------------------------------------------


def test_a_bucket_is_backed_up_and_brought_back_too(tmp_path: Path, docs: Path, store: FolderObjects) -> None:
    bucket = MemoryObjects("docs")
    for path, (content, _) in tree(docs).items():
        bucket.put(path, [content])
    part = capture([StoredFiles(bucket)], store)
    assert (part.files, part.added) == (5, 4)
    second = capture([StoredFiles(bucket)], store, entries(store, part))
    assert second.added == 0
    other = MemoryObjects("docs")
    assert restore(store, part, {"docs": other}).written == 5
    assert {key: data for key, (data, _) in other.objects.items()} == {
        key: data for key, (data, _) in bucket.objects.items()
    }
    assert restore(store, part, {"docs": other}).unchanged == 5
    # A folder's files into a bucket, and a bucket's into a folder.
    assert restore(store, part, {"docs": tmp_path / "back"}).written == 5
    assert {path: content for path, (content, _) in tree(tmp_path / "back").items()} == {
        path: content for path, (content, _) in tree(docs).items()
    }
    bucket.objects.clear()
    with pytest.raises(BackupError, match="is empty"):
        capture([StoredFiles(bucket)], store, entries(store, part))


def test_a_real_bucket_holds_sources_points_and_what_comes_back(
    tmp_path: Path, docs: Path, s3_bucket: str, s3_settings: S3Settings, keys: Keys | None
) -> None:
    store = S3Objects("primary", s3_bucket, "points of zhiyun", s3_settings)
    source = StoredFiles(S3Objects("docs", s3_bucket, "source", s3_settings, "BACKUP_FILES"))
    for path, (content, _) in tree(docs).items():
        source.store.put(path, [content])
    part = capture([source], store, keys=keys)
    assert (part.files, part.added) == (5, 4)
    assert verify(store, part, keys) == 4
    assert restore(store, part, {"docs": tmp_path / "back"}, keys=keys).written == 5
    assert {path: content for path, (content, _) in tree(tmp_path / "back").items()} == {
        path: content for path, (content, _) in tree(docs).items()
    }
    target = S3Objects("docs", s3_bucket, "target", s3_settings, "BACKUP_FILES")
    assert restore(store, part, {"docs": target}, keys=keys).written == 5
    assert restore(store, part, {"docs": target}, keys=keys).unchanged == 5
    other = FolderObjects("offsite", tmp_path / "offsite")
    assert files_restore.copy(store, other, part, keys) == 4


def test_a_store_that_breaks_off_leaves_no_inventory_and_the_next_try_goes_on(docs: Path) -> None:
    store = MemoryObjects()
    put = store.put

    def breaking(key: str, chunks: Iterable[bytes]) -> int:
        if len(store.objects) == 2:
            store.unreachable = "does not answer"
        return put(key, chunks)

    store.put = breaking  # type: ignore[method-assign]
    with pytest.raises(ObjectStoreError, match="does not answer"):
        capture(docs, store)
    store.put, store.unreachable = put, ""  # type: ignore[method-assign]
    assert len(objects(store)) == len(store.objects) == 2
    part = capture(docs, store)
    assert part.added == 2
    assert verify(store, part) == 4


def test_a_copy_in_another_store_is_whole(docs: Path, store: FolderObjects, keys: Keys | None) -> None:
    part = capture(docs, store, keys=keys)
    other = MemoryObjects("offsite")
    assert files_restore.copy(store, other, part, keys) == 4
    assert files_restore.copy(store, other, part, keys) == 0
    other.put(part.inventory.key, store.read(part.inventory.key))
    assert verify(other, part, keys) == 4


# --- size -----------------------------------------------------------------------------------------------------------


def test_many_small_files_are_all_there_and_progress_tells_all_bytes(tmp_path: Path, store: FolderObjects) -> None:
    for number in range(300):
        write(tmp_path / "docs" / f"{number % 7}" / f"{number}.md", f"document {number}\n" * 20)
    told: list[int] = []
    threads: set[int] = set()

    def progress(count: int) -> None:
        told.append(count)
        threads.add(threading.get_ident())

    part = files_capture.capture([FolderFiles("docs", tmp_path / "docs")], store, "points/x/a", (), None, progress)
    assert part.files == part.added == 300
    assert sum(told) == part.bytes
    paths = [entry.path for entry in entries(store, part)]
    assert paths == sorted(paths)
    assert verify(store, part) == 300


def test_memory_does_not_grow_with_the_size_of_a_file(tmp_path: Path) -> None:
    """A file of 300 MB is backed up, verified and restored by a process that may not have half of that."""
    code = rf"""
import re
from pathlib import Path
from objects.folder import FolderObjects
from orchestration.backups.files import capture, restore
from orchestration.backups.files.folder import FolderFiles
def peak():
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])
base = peak()
store = FolderObjects("s", Path({str(tmp_path / "store")!r}))
part = capture.capture([FolderFiles("docs", Path({str(tmp_path / "docs")!r}))], store, "points/x/a/")
restore.verify(store, part)
print(restore.restore(store, part, {{"docs": Path({str(tmp_path / "back")!r})}}).written)
print(peak() - base)
"""
    (tmp_path / "docs").mkdir()
    with (tmp_path / "docs" / "large").open("wb") as file:
        file.truncate(300_000_000)  # zeros
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    written, kilobytes = map(int, said.stdout.split())
    assert written == 1
    assert kilobytes < 130_000, kilobytes


# --- settings -------------------------------------------------------------------------------------------------------


def test_the_sources_are_those_of_the_settings(tmp_path: Path) -> None:
    knowledge = KnowledgeSettings(sources=f"docs={tmp_path}/a,{tmp_path}/b")
    found = file_sources(BackupSettings(), knowledge, S3Settings())
    assert [(source.name, source.url) for source in found] == [
        ("docs", f"file://{tmp_path}/a"),
        ("b", f"file://{tmp_path}/b"),
    ]
    found = file_sources(BackupSettings(files=f"{tmp_path}/x,kept=s3://bucket/prefix"), knowledge, S3Settings())
    assert [(source.name, source.url) for source in found] == [
        ("x", f"file://{tmp_path}/x"),
        ("kept", "s3://bucket/prefix"),
    ]
    with pytest.raises(SettingsError, match="BACKUP_FILES"):
        file_sources(BackupSettings(files="a=,"), knowledge, S3Settings())
