"""What cannot be backed up as it is, is left out in a sentence, and everything else is there."""

from __future__ import annotations

import errno
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from objects.folder import FolderObjects
from orchestration.backups.files import capture as files_capture
from orchestration.backups.files.folder import FolderFiles
from orchestration.backups.files.inventory import entries
from orchestration.backups.files.place import Found
from orchestration.backups.files.restore import restore
from orchestration.backups.recovery_point import BackupError
from tests.support.backups.file_trees import OLD, capture, objects, tree, write


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
