"""A place where files of the file store are, whatever it is: the words that a backup and a restore use for it.

A place can be looked through, read and written to, so a backup reads from what a restore writes to. Paths are relative,
with forward slashes, and text that JSON can hold (`knowledge.documents.sources.storable`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from knowledge.documents.sources import as_on_disk
from orchestration.backups.recovery_point import PointDamaged


class FileProblem(Exception):
    """One file cannot be read or written. `str` is a sentence."""


class FileChanged(FileProblem):
    """A file is not, or no longer, what was seen of it."""


class PlaceMissing(FileProblem):
    """The folder itself is not there, or cannot be looked into."""


@dataclass(frozen=True, slots=True)
class Found:
    """One file as a look at its place saw it."""

    path: str
    size: int
    mtime_ns: int


class Files(Protocol):
    """A place of files under a name."""

    @property
    def name(self) -> str: ...

    @property
    def url(self) -> str: ...

    def scan(self, problems: list[str]) -> Iterator[Found]:
        """All regular files by path; what cannot be looked at becomes a sentence. Raises PlaceMissing."""
        ...

    def look(self, path: str) -> Found | None:
        """What is at this path now; None: nothing. Raises FileProblem for what is no file."""
        ...

    def read(self, found: Found) -> Iterator[bytes]:
        """The bytes of a file. Raises FileChanged (at the end, at the latest) if it is not what was found."""
        ...

    def write(self, path: str, chunks: Iterable[bytes], mtime_ns: int) -> None:
        """Write a file whole or not at all; what `chunks` raises comes out as it is. Raises FileProblem."""
        ...


def checked_path(path: str) -> str:
    """The path, if it stays below its folder. Raises PointDamaged."""
    name = as_on_disk(path)
    if "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
        raise PointDamaged(f"{path!r} is no path of a file below a folder. Nothing was written there.")
    return path
