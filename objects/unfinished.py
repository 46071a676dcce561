"""Files while they are written: under another name and locked, so that a dead writer's are known from a living one's."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
from pathlib import Path

PREFIX = ".unfinished-"
"""What their names begin with; the writer's process id follows, for people."""


def create(folder: Path) -> tuple[Path, int]:
    """A new file that only this user may read: (path, descriptor). Raises OSError."""
    path = folder / f"{PREFIX}{os.getpid()}-{secrets.token_hex(6)}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    # The kernel unlocks it when the process dies. A process id is no proof: it is soon another's, in a container above all.
    with contextlib.suppress(OSError):  # not every file system has locks
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return path, descriptor


def write(descriptor: int, chunk: bytes) -> None:
    """Write all of it. Raises OSError."""
    view = memoryview(chunk)
    while view:
        view = view[os.write(descriptor, view) :]


def finish(path: Path, descriptor: int, target: Path) -> None:
    """Give the file its name once it is on the disk. Raises OSError."""
    os.fsync(descriptor)
    path.replace(target)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # network file systems that have no such thing
            raise
    finally:
        os.close(descriptor)


def has_writer(path: str) -> bool:
    """Whether a process that lives is writing the file. Raises OSError when it is gone."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False
