"""Files of a folder of this machine, as a backup sees them and a restore writes them."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from knowledge.documents.sources import as_on_disk, storable
from orchestration.backups.files.place import FileChanged, FileProblem, Found, PlaceMissing, checked_path
from orchestration.backups.recovery_point import BackupError

_BLOCK = 1 << 20
_UNFINISHED = ".zhiyun-restoring-"  # a file that a restore has not finished; the next ones pass it over


class FolderFiles:
    """A folder of this machine. Links that stay inside are files like others; those that lead out are not followed."""

    def __init__(self, name: str, folder: Path) -> None:
        self._name = name
        self.folder = folder.expanduser().absolute()
        self._inside = os.path.realpath(self.folder) + os.sep

    @property
    def name(self) -> str:
        return self._name

    @property
    def url(self) -> str:
        return f"file://{storable(os.fspath(self.folder))}"

    def scan(self, problems: list[str]) -> Iterator[Found]:
        """See Files. Pipes, sockets and devices are passed over."""
        try:
            with os.scandir(self.folder):
                pass
        except OSError as error:
            raise PlaceMissing(f"{self.url} cannot be looked into ({_why(error)})") from None
        return self._walk(os.fspath(self.folder), "", problems)

    def _walk(self, folder: str, above: str, problems: list[str]) -> Iterator[Found]:
        try:
            with os.scandir(folder) as entries:
                listed = [(storable(entry.name), entry) for entry in entries if not entry.name.startswith(_UNFINISHED)]
        except OSError as error:
            problems.append(f"{self._name}/{above} cannot be looked into ({_why(error)}), so nothing below it is here.")
            return
        # With the slash, so that paths come in the order of whole paths: `a.txt` before `a/b`.
        for name, entry in sorted(listed, key=lambda item: item[0] + ("/" if _is_folder(item[1]) else "")):
            path = above + name
            if _is_folder(entry):
                yield from self._walk(entry.path, path + "/", problems)
            else:
                try:
                    if entry.is_symlink() and self._leads_out(entry.path):
                        problems.append(
                            f"{self._name}/{path} is a link out of {self.url}, and what it leads to is not in the backup; "
                            "name that place in BACKUP_FILES to have it there."
                        )
                        continue
                    status = entry.stat()
                except OSError as error:
                    if error.errno != errno.ENOENT or entry.is_symlink():
                        problems.append(f"{self._name}/{path} cannot be looked at ({_why(error)}).")
                    continue
                if stat.S_ISREG(status.st_mode):
                    yield Found(path, status.st_size, status.st_mtime_ns)

    def look(self, path: str) -> Found | None:
        """See Files."""
        try:
            status = self._on_disk(path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise FileProblem(f"{self._name}/{path} cannot be looked at ({_why(error)}).") from None
        if not stat.S_ISREG(status.st_mode):
            raise FileProblem(f"{self._name}/{path} is not a regular file.")
        return Found(path, status.st_size, status.st_mtime_ns)

    def read(self, found: Found) -> Iterator[bytes]:
        """See Files."""
        path, wanted = self._on_disk(found.path), (found.size, found.mtime_ns)
        changed = FileChanged(f"{self._name}/{found.path} changed while it was read.")
        try:
            # O_NONBLOCK: a pipe put in the file's place must not hang the backup.
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb", buffering=0) as file:
                before = os.fstat(file.fileno())
                if not stat.S_ISREG(before.st_mode) or (before.st_size, before.st_mtime_ns) != wanted:
                    raise changed
                count = 0
                while block := file.read(_BLOCK):
                    count += len(block)
                    yield block
                after, now = os.fstat(file.fileno()), path.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise FileChanged(f"{self._name}/{found.path} was removed while it was read.") from None
        except OSError as error:
            raise FileProblem(f"{self._name}/{found.path} cannot be read ({_why(error)}).") from None
        if count != found.size or not _identity(before) == _identity(after) == _identity(now):
            raise changed

    def write(self, path: str, chunks: Iterable[bytes], mtime_ns: int) -> None:
        """See Files. A full disk is a BackupError: no other file would fit either."""
        target = self._on_disk(path)
        if self._leads_out(target.parent):
            raise FileProblem(f"{self._name}/{path} was not written: a link on its way leads out of {self.url}.")
        temporary = target.parent / (_UNFINISHED + secrets.token_hex(8))
        with self._told(path):
            target.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                for chunk in chunks:
                    with self._told(path):
                        view = memoryview(chunk)
                        while view:
                            view = view[file.write(view) :]
                with self._told(path):
                    os.utime(descriptor, ns=(mtime_ns, mtime_ns))
                    os.fsync(descriptor)
            with self._told(path):
                temporary.replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise

    @contextlib.contextmanager
    def _told(self, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                raise BackupError(
                    f"{self.url} takes no more files ({_why(error)}): {self._name}/{path} was not written, and what was "
                    "there before it is untouched."
                ) from None
            raise FileProblem(f"{self._name}/{path} was not written ({_why(error)}).") from None

    def _on_disk(self, path: str) -> Path:
        return self.folder / as_on_disk(checked_path(path))

    def _leads_out(self, path: str | Path) -> bool:
        return not (os.path.realpath(path) + os.sep).startswith(self._inside)


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """A folder that is walked into; one that is linked to is reached otherwise, or lies outside."""
    with contextlib.suppress(OSError):
        return entry.is_dir(follow_symlinks=False)
    return False


def _why(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
