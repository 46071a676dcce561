"""Files come back as they were, whatever they are called, how many and how large they are."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

from objects.folder import FolderObjects
from orchestration.backups.files import capture as files_capture
from orchestration.backups.files import restore as files_restore
from orchestration.backups.files.folder import FolderFiles
from orchestration.backups.files.inventory import entries
from orchestration.backups.files.restore import restore, verify
from orchestration.backups.streams.encryption import Keys
from tests.support.backups.file_trees import capture, new_keys, objects, tree, write
from tests.support.backups.recovery_points import MemoryObjects


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


def test_a_copy_in_another_store_is_whole(docs: Path, store: FolderObjects, keys: Keys | None) -> None:
    part = capture(docs, store, keys=keys)
    other = MemoryObjects("offsite")
    assert files_restore.copy(store, other, part, keys) == 4
    assert files_restore.copy(store, other, part, keys) == 0
    other.put(part.inventory.key, store.read(part.inventory.key))
    assert verify(other, part, keys) == 4


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
