"""Where documents come from: folders with Markdown, text and HTML files.

A scan looks at names, sizes and times only; `read_bytes` reads one file, and never a half-written one. Paths are
kept so that PostgreSQL can store them: bytes that are not UTF-8 and control characters are percent-escaped.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zhiyun.settings import SettingsError

SUFFIXES = (".md", ".markdown", ".mdx", ".txt", ".html", ".htm")
NOT_SOURCES = {".git", ".hg", ".svn", ".venv", ".idea", ".vscode", ".obsidian", ".trash", "__MACOSX", "node_modules"}
"""Folders that tools keep for themselves; what is below them is not looked at."""
MEGABYTE = 1_000_000  # the unit of KNOWLEDGE_MAX_FILE_MB

_TRIES = 3
_PAUSE = 0.05  # seconds between two tries at a file that is being written
_BLOCK = 1 << 20


class IntakeError(Exception):
    """Something cannot be taken in. `reason` is one sentence for a person."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class SourceUnavailable(IntakeError):
    """A whole source cannot be looked at, so nothing is known about its documents and nothing of it may change."""


class UnreadableFile(IntakeError):
    """One file cannot be read."""


class FileChanged(UnreadableFile):
    """One file was written while it was read; the next run finds it again."""


@dataclass(frozen=True)
class Source:
    """A folder of documents under a name; the name is the first part of every URI."""

    name: str
    folder: Path


@dataclass(frozen=True)
class SourceFile:
    """One file as a scan saw it. `path` is relative to the source, with forward slashes, and always storable text."""

    source: str
    path: str
    absolute: Path
    size: int
    mtime_ns: int

    @property
    def uri(self) -> str:
        """`source/path`."""
        return f"{self.source}/{self.path}"


@dataclass(frozen=True)
class Scan:
    """What one look at a source found.

    `problems` are sentences for people. `unread` are the paths (folders, and files that could not be looked at) about
    which nothing is known: documents there are neither new nor gone (`knows`). `passed_over` are files that are no
    documents by their name.
    """

    files: list[SourceFile]
    problems: list[str]
    unread: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()

    def knows(self, path: str) -> bool:
        """False for a path at or below one that could not be read: such a document must not count as deleted."""
        return not any(path == part or path.startswith(part + "/") for part in self.unread)


def parse_sources(value: str) -> list[Source]:
    """The sources that KNOWLEDGE_SOURCES names, in its order; relative folders are below the working directory.

    Raises SettingsError, with one sentence, for an empty value, an empty part, and two sources of one name.
    """
    sources: list[Source] = []
    for part in value.split(","):
        name, separator, folder = part.partition("=")
        if not separator:
            name, folder = "", part
        if not folder.strip() or (separator and not name.strip()):
            raise SettingsError(
                f"KNOWLEDGE_SOURCES={value!r}: has an empty part; write `folder` or `name=folder`, separated by commas"
            )
        path = Path(folder.strip()).expanduser().absolute()
        name = storable(name.strip() or path.resolve().name)
        if not name or "/" in name:
            raise SettingsError(
                f"KNOWLEDGE_SOURCES={value!r}: {folder.strip()!r} needs a name without a slash; write `name=folder`"
            )
        if taken := next((source for source in sources if source.name == name), None):
            raise SettingsError(
                f"KNOWLEDGE_SOURCES={value!r}: {taken.folder} and {path} would both be named {name!r}; "
                "give one of them another name with `name=folder`"
            )
        sources.append(Source(name, path))
    return sources


def scan(source: Source) -> Scan:
    """All documents of a source, ordered by path; hidden files, tools' folders, pipes and devices are skipped.

    What cannot be looked at (a sub-folder without permission, a link that leads nowhere) becomes a problem. Raises
    SourceUnavailable when the folder is missing, is not a folder, cannot be read or holds no document at all.
    """
    walk = _Walk(source)
    files = sorted(walk.files(), key=lambda file: file.path)
    if not files:
        hint = f" ({walk.problems[0]})" if walk.problems else ""
        raise _unavailable(source, f"has no documents ({', '.join(SUFFIXES)}) in {source.folder}{hint}")
    return Scan(files, walk.problems, tuple(walk.unread), tuple(sorted(walk.passed_over)))


def signature(sources: list[Source]) -> str:
    """A sha256 over the names, sizes and times of all files: it changes when a scan would find something else.

    A source that is missing or empty has a signature too. Reads no file; a few milliseconds for 1,000 files.
    """
    digest = hashlib.sha256()
    for source in sources:
        digest.update(f"\0source {source.name}\0{os.fsencode(source.folder)!r}\0".encode())
        walk = _Walk(source)
        try:
            lines = sorted(f"{file.path}\0{file.size}\0{file.mtime_ns}\0" for file in walk.files())
        except SourceUnavailable as error:
            lines = [error.reason]
        digest.update("".join(lines).encode())
        digest.update("\0".join(walk.unread).encode())
    return digest.hexdigest()


def read_bytes(file: SourceFile, max_mb: float) -> bytes:
    """The content of a file as it was at one moment.

    Raises UnreadableFile when it is larger than `max_mb` (KNOWLEDGE_MAX_FILE_MB; then it is not read), is gone, is no
    regular file or may not be read; FileChanged when it was written during each of three attempts.
    """
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(_PAUSE * attempt)
        content = _read_once(file, int(max_mb * MEGABYTE), max_mb)
        if content is not None:
            return content
    raise FileChanged(f"{file.uri} changed while it was read; it is taken in by the next run")


def _read_once(file: SourceFile, limit: int, max_mb: float) -> bytes | None:
    """The file's bytes, or None when it changed meanwhile."""
    try:
        # O_NONBLOCK: a pipe put in the file's place must not hang the run.
        descriptor = os.open(file.absolute, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise _unreadable(file, error) from None
    with os.fdopen(descriptor, "rb", buffering=0) as handle:
        try:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                raise UnreadableFile(f"{file.uri} cannot be read: it is not a regular file")
            if before.st_size > limit:
                raise UnreadableFile(
                    f"{file.uri} was not read: it has {before.st_size / MEGABYTE:.1f} MB, more than "
                    f"KNOWLEDGE_MAX_FILE_MB={max_mb:g} allows"
                )
            blocks: list[bytes] = []
            left = limit + 1
            while left > 0 and (block := handle.read(min(left, _BLOCK))):
                blocks.append(block)
                left -= len(block)
            content = b"".join(blocks)
            after, now = os.fstat(descriptor), file.absolute.stat()
        except OSError as error:
            raise _unreadable(file, error) from None
    same = _identity(before) == _identity(after) == _identity(now)
    return content if same and len(content) == before.st_size else None


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _unreadable(file: SourceFile, error: OSError) -> UnreadableFile:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return UnreadableFile(f"{file.uri} cannot be read: it was removed after the scan")
    return UnreadableFile(f"{file.uri} cannot be read: {_why(error)}")


def _unavailable(source: Source, what: str) -> SourceUnavailable:
    return SourceUnavailable(f"source {source.name!r} (KNOWLEDGE_SOURCES) {what}; nothing of this source was changed")


def _why(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()


class _Walk:
    """One recursive look at a source; `problems` and `unread` are complete once `files` is exhausted."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.problems: list[str] = []
        self.unread: list[str] = []
        self.passed_over: list[str] = []

    def files(self) -> Iterator[SourceFile]:
        source = self.source
        root = os.fspath(source.folder)
        try:
            status = source.folder.stat()
            inside = os.path.realpath(root) + os.sep
        except OSError as error:
            missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
            what = "does not exist" if missing else f"cannot be read ({_why(error)})"
            raise _unavailable(source, f"cannot be taken in: {storable(root)} {what}") from None
        if not stat.S_ISDIR(status.st_mode):
            raise _unavailable(source, f"cannot be taken in: {storable(root)} is not a folder")
        linked = {(status.st_dev, status.st_ino)}
        folders = [(root, "")]
        while folders:
            folder, prefix = folders.pop()
            try:
                with os.scandir(folder) as entries:
                    found = sorted(entries, key=lambda entry: os.fsencode(entry.name))
            except OSError as error:
                if not prefix:
                    raise _unavailable(source, f"cannot be read: {storable(root)}: {_why(error)}") from None
                self._skip(prefix.rstrip("/"), f"cannot be read ({_why(error)})")
                continue
            for entry in found:
                path = prefix + storable(entry.name)
                try:
                    if entry.is_dir():
                        if entry.name in NOT_SOURCES:
                            continue
                        if entry.is_symlink() and self._seen(entry, inside, linked):
                            continue
                        folders.append((entry.path, path + "/"))
                    elif entry.is_symlink() or entry.name.lower().endswith(SUFFIXES):
                        status = entry.stat()
                        # `.#name.md` and `._name.md` are what editors and file systems leave behind.
                        if entry.name.startswith(".") or not entry.name.lower().endswith(SUFFIXES):
                            self.passed_over.append(path)
                            continue
                        if stat.S_ISREG(status.st_mode):
                            absolute = Path(entry.path)
                            yield SourceFile(source.name, path, absolute, status.st_size, status.st_mtime_ns)
                    else:
                        self.passed_over.append(path)
                except OSError as error:
                    if error.errno == errno.ENOENT and not entry.is_symlink():
                        continue  # removed since the folder was listed
                    # A link may lead to a folder that is not mounted now: what is below it is not gone.
                    dangling = error.errno in (errno.ENOENT, errno.ELOOP)
                    self._skip(path, f"cannot be read ({'its link leads nowhere' if dangling else _why(error)})")

    def _skip(self, path: str, what: str) -> None:
        self.unread.append(path)
        self.problems.append(f"{self.source.name}/{path} {what}; its documents were left as they are")

    @staticmethod
    def _seen(entry: os.DirEntry[str], inside: str, linked: set[tuple[int, int]]) -> bool:
        """True for a link to a folder that is reached otherwise: inside the source, or through an earlier link."""
        if (os.path.realpath(entry.path) + os.sep).startswith(inside):
            return True
        status = entry.stat()
        identity = (status.st_dev, status.st_ino)
        if identity in linked:
            return True
        linked.add(identity)
        return False


# A literal % is escaped only where it would read as an escape, so names stay readable and distinct.
_UNSTORABLE = re.compile(r"[\udc80-\udcff]+|[\x00-\x1f\x7f]|%(?=[0-9A-Fa-f]{2})")


def storable(name: str) -> str:
    """A file name as text that PostgreSQL stores: undecodable bytes and control characters as %XX."""

    def escape(match: re.Match[str]) -> str:
        return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogateescape"))

    return _UNSTORABLE.sub(escape, name)


def as_on_disk(text: str) -> str:
    """The file name that `storable` made the text of."""
    raw = re.sub(rb"%([0-9A-F]{2})", lambda match: bytes.fromhex(match[1].decode()), text.encode("utf-8"))
    return raw.decode("utf-8", "surrogateescape")
