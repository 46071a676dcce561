"""What is kept on disk: one owner for each data folder, files replaced as a whole, writes made to last."""

import fcntl
import os
import shutil
from pathlib import Path
from typing import BinaryIO

from embedded.qdrant.errors import StartError, disk_full


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
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Make all that is written below the folder last. Files that vanish meanwhile are passed over.

    The engine writes through memory maps, whose pages `fsync` of the same file writes out.
    """
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                handle = os.open(Path(place, name), os.O_RDONLY)
            except FileNotFoundError:
                continue
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def require_room(folder: Path, reserve: int) -> None:
    """Raise ApiError when fewer than `reserve` bytes are free.

    The engine writes into memory-mapped sparse files. On a full disk such a write does not fail: it kills the
    process (SIGBUS). So a write is refused while there is still room for what is under way.
    """
    free = shutil.disk_usage(folder).free
    if free < reserve:
        raise disk_full(
            f"{free >> 20} MiB are free under {folder}, {reserve >> 20} MiB are kept in reserve; nothing was written"
        )
