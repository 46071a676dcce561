"""A snapshot's file: a gzipped tar of `collection.json` and of the shard's folder, its log included.

Gzip because most of a shard's length is holes, which pack to nothing; level 1 because a snapshot is made while
others wait for the disk. Any `tar xzf` reads it. It is not the server's format: the engine keeps other files.
"""

import contextlib
import gzip
import hashlib
import io
import os
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import msgspec

from embedded.qdrant.errors import ApiError, bad_request
from embedded.qdrant.settings.config import CollectionConfig
from embedded.qdrant.shards.files import PIECE, require_room, write_sparse

FORMAT = 1
SHARD = "shard"
DESCRIPTION = "collection.json"
_MAX_DESCRIPTION = 16 * 1024 * 1024


class Description(msgspec.Struct, frozen=True):
    """What a snapshot says about the collection it was taken of."""

    format: int
    engine: str
    """The engine's version."""
    name: str
    config: CollectionConfig
    metadata: dict[str, Any] | None = None


def pack(description: Description, shard: Path, target: Path) -> str:
    """Write the archive and make it last. Gives its SHA-256 in hex."""
    with target.open("wb") as file:
        hashing = _Hashing(file)
        with (
            gzip.GzipFile(fileobj=hashing, mode="wb", compresslevel=1, filename="", mtime=0) as zipped,
            tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            content = msgspec.json.encode(description)
            member = tarfile.TarInfo(DESCRIPTION)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
            archive.add(shard, SHARD)
        file.flush()
        os.fsync(file.fileno())
    return hashing.sha256.hexdigest()


def unpack(archive: Path, target: Path, reserve: int) -> Description:
    """Write the archive's shard into the folder `target`, which must not exist.

    Raises ApiError (400) for whatever is no snapshot or is damaged, (507) when less than `reserve` bytes stay free.
    """
    description: Description | None = None
    target.mkdir()
    with _readable(archive) as opened:
        for member in opened:
            if member.name == DESCRIPTION:
                description = _described(opened, member)
                continue
            place = _inside(member, target)
            if place is None:
                raise _not_ours(f"it has an entry `{member.name[:80]}`")
            if member.isdir():
                place.mkdir(parents=True, exist_ok=True)
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            packed = opened.extractfile(member)
            assert packed is not None  # _inside lets regular files and folders through
            require_room(target, reserve)
            with place.open("wb") as file:
                length = write_sparse(file, _pieces(packed, target, reserve))
            if length != member.size:
                raise bad_request(f"the snapshot is damaged: `{member.name}` is cut short")
    if description is None:
        raise _not_ours(f"it has no {DESCRIPTION}")
    return description


@contextlib.contextmanager
def _readable(archive: Path) -> Iterator[tarfile.TarFile]:
    try:
        # Left to itself tarfile would not compare gzip's checksum, which is checked when the end has been read.
        with gzip.open(archive) as zipped, tarfile.open(fileobj=zipped, mode="r|", bufsize=PIECE) as opened:
            yield opened
            while zipped.read(PIECE):
                pass
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _not_ours(str(error) or type(error).__name__) from error


def _pieces(packed: Any, target: Path, reserve: int) -> Iterator[bytes]:
    written = 0
    while piece := packed.read(PIECE):
        written += len(piece)
        if written % (64 * PIECE) < PIECE:
            require_room(target, reserve)
        yield piece


def _described(opened: tarfile.TarFile, member: tarfile.TarInfo) -> Description:
    content = opened.extractfile(member)
    if content is None or member.size > _MAX_DESCRIPTION:
        raise _not_ours(f"its {DESCRIPTION} is no file of a sensible size")
    try:
        description = msgspec.json.decode(content.read(), type=Description)
    except msgspec.MsgspecError as error:
        raise _not_ours(f"its {DESCRIPTION} cannot be read: {error}") from error
    if description.format != FORMAT:
        raise bad_request(f"the snapshot has format {description.format}, this server reads {FORMAT}")
    return description


def _inside(member: tarfile.TarInfo, target: Path) -> Path | None:
    """Where an entry goes, or None if it is neither a file nor a folder below the shard's own."""
    parts = PurePosixPath(member.name).parts
    if not parts or parts[0] != SHARD or ".." in parts or not (member.isfile() or member.isdir()):
        return None
    return target.joinpath(*parts[1:])


def _not_ours(reason: str) -> ApiError:
    return bad_request(
        f"this is no snapshot of the embedded vector store ({reason}); a Qdrant server's snapshots have another "
        "format: copy its points with scroll and upsert"
    )


class _Hashing(io.RawIOBase):
    """Passes on what is written and hashes it on the way."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        return self._file.write(data)
