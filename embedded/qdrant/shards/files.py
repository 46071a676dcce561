"""What is kept on disk: one owner for each data folder, files replaced as a whole, writes made to last."""

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from embedded.qdrant.errors import StartError, disk_full

PIECE = 1024 * 1024
"""How many bytes are read at once."""


def lock_folder(folder: Path) -> BinaryIO:
    """Own the folder until the returned file is closed or the process ends, however it ends.

    Raises StartError when another process owns it.
    """
    lock = (folder / ".lock").open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise StartError(f"another process uses the data folder {folder}; stop it or give another --data") from error
    return lock


def replace_file(path: Path, content: bytes) -> None:
    """Put the content in the file's place: after a crash there is the old or the new one, whole."""
    new = path.with_name(f"{path.name}.new")
    with new.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the folder's list of names last."""
    _sync(folder)


def sync_tree(folder: Path) -> None:
    """Make all that is written below the folder last. Files that vanish meanwhile are passed over.

    The engine writes through memory maps, whose pages `fsync` of the same file writes out.
    """
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                _sync(Path(place, name))


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def free_space(folder: Path) -> int:
    """How many bytes are free on the folder's disk; raises OSError."""
    return shutil.disk_usage(folder).free


def require_room(folder: Path, reserve: int) -> int:
    """How many bytes are free. Raises ApiError when they are fewer than `reserve`.

    The engine writes into memory-mapped sparse files. On a full disk such a write does not fail: it kills the
    process (SIGBUS). So a write is refused while there is still room for what is under way.
    """
    free = free_space(folder)
    if free < reserve:
        raise disk_full(
            f"{free >> 20} MiB are free under {folder}, {reserve >> 20} MiB are kept in reserve; nothing was written"
        )
    return free


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder whole. The holes of sparse files stay holes: of the engine's files most of the length is."""
    target.mkdir()
    for place, folders, names in os.walk(source):
        copied = target / Path(place).relative_to(source)
        for name in folders:
            (copied / name).mkdir()
        for name in names:
            _copy_sparse(Path(place, name), copied / name)


def _copy_sparse(source: Path, target: Path) -> None:
    with source.open("rb", buffering=0) as read, target.open("wb", buffering=0) as written:
        size = os.fstat(read.fileno()).st_size
        written.truncate(size)
        for start, end in _filled(read.fileno(), size):
            read.seek(start)
            written.seek(start)
            left = end - start
            while left > 0 and (piece := read.read(min(left, PIECE))):
                written.write(piece)
                left -= len(piece)


def _filled(handle: int, size: int) -> Iterator[tuple[int, int]]:
    """The parts of an open file that are not holes, as (start, end); all of it where the system cannot tell."""
    if not hasattr(os, "SEEK_DATA"):
        yield 0, size
        return
    position = 0
    while position < size:
        try:
            start = os.lseek(handle, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # a hole to the end
                return
            raise
        position = os.lseek(handle, start, os.SEEK_HOLE)
        yield start, position


def write_sparse(file: BinaryIO, pieces: Iterable[bytes]) -> int:
    """Write pieces into an empty file, leaving a hole for each that is all zeros. Gives the file's length."""
    length = 0
    for piece in pieces:
        length += len(piece)
        if piece.count(0) == len(piece):
            file.seek(len(piece), os.SEEK_CUR)
        else:
            file.write(piece)
    file.truncate(length)
    return length


def filled_size(folder: Path) -> int:
    """How many bytes a folder's files take on the disk, holes not counted."""
    return sum(Path(place, name).stat().st_blocks * 512 for place, _, names in os.walk(folder) for name in names)


def remove_tree(folder: Path) -> None:
    """Delete a folder and what is in it; what cannot be deleted now is swept at the next start."""
    shutil.rmtree(folder, ignore_errors=True)
