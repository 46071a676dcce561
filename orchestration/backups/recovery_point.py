"""The words of a backup: what a recovery point is made of, and how it is written down.

A point is `points/ID/` in a store. `manifest.json` is written last: it is the commit mark, and what has no manifest does
not exist for a restore. Files of the file store lie once under `files/`, by content, and belong to every point that
names them. No secret is in a manifest.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

import msgspec

FORMAT = 1
"""The manifest format that this version writes. A higher number comes from a later version and is refused."""

State: TypeAlias = Literal["complete", "verified", "failed"]
_ID = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{6}Z(-[0-9a-z]{1,8})?)?")


class BackupError(RuntimeError):
    """A backup, a restore or a verification cannot go on. One sentence: what, where, which setting, what is untouched."""


class PointDamaged(BackupError):
    """A recovery point is not what its manifest says. One sentence that names the object."""


class Blob(msgspec.Struct, frozen=True):
    """One object of a point as it lies in the store: compressed, then perhaps encrypted."""

    key: str
    size: int  # bytes in the store
    sha256: str  # of the bytes in the store
    raw_size: int  # bytes before compression and encryption
    compressed: bool = True


class Table(msgspec.Struct, frozen=True):
    """A table in the snapshot that the dump was taken from."""

    name: str  # schema.table
    rows: int
    sampled: int = 0  # rows that `sample` was made of
    sample: str = ""  # sha256 over sampled rows as text; empty where the table has no key to order by


class Database(msgspec.Struct, frozen=True):
    """One dumped database: `role` says what it is for the platform."""

    name: str
    role: Literal["platform", "dagster"]
    dump: Blob  # pg_dump's custom format without its own compression
    server_version: str  # "15.18"
    programs_version: str  # of pg_dump
    tables: tuple[Table, ...]
    extensions: dict[str, str] = {}
    migration: str = ""  # alembic's revision; empty in Dagster's database
    live_release: int | None = None

    @property
    def major(self) -> int:
        """The server's major version, 15 or later."""
        return int(self.server_version.split(".")[0])


class PostgresPart(msgspec.Struct, frozen=True):
    """Everything from PostgreSQL; `globals_` is roles and their memberships, without passwords."""

    databases: tuple[Database, ...]
    globals_: Blob
    system: str  # pg_control_system's identifier, empty where it may not be read


class Collection(msgspec.Struct, frozen=True):
    """One collection of the vector store."""

    name: str
    snapshot: Blob
    points: int
    config: dict[str, Any]  # as GET /collections/NAME shows it under `config`, metadata included
    checksum: str = ""  # sha256 of the snapshot as the node made it; empty where it told none
    settled: bool = True  # nobody wrote meanwhile, so `points` is what the snapshot holds


class VectorsPart(msgspec.Struct, frozen=True):
    """Everything from the vector store."""

    engine: Literal["qdrant", "embedded"]  # their snapshots are not alike
    version: str
    collections: tuple[Collection, ...]
    aliases: dict[str, str]  # alias -> collection
    live_release: int | None = None
    live_collection: str | None = None


class FileSource(msgspec.Struct, frozen=True):
    """A folder or bucket of the file store."""

    name: str
    url: str
    files: int
    bytes: int


class FilesPart(msgspec.Struct, frozen=True):
    """Everything from the file store. `inventory` is JSON lines of files.Entry."""

    inventory: Blob
    sources: tuple[FileSource, ...]
    added: int  # objects that this point was the first to need
    added_bytes: int
    problems: tuple[str, ...] = ()  # files that could not be read; each a sentence

    @property
    def files(self) -> int:
        return sum(source.files for source in self.sources)

    @property
    def bytes(self) -> int:
        return sum(source.bytes for source in self.sources)


class GoldenPart(msgspec.Struct, frozen=True):
    """What the live release answered to the golden questions when the point was made; JSON lines of golden.Answer."""

    answers: Blob
    questions: int


class Manifest(msgspec.Struct, frozen=True):
    """A recovery point, whole."""

    format: int
    id: str
    made_at: datetime  # UTC; the moment of the first capture: what came later is lost with this point
    by: Literal["schedule", "hand"]
    zhiyun: str  # version of the platform
    postgres: PostgresPart
    vectors: VectorsPart
    files: FilesPart
    golden: GoldenPart | None = None
    key: str = ""  # fingerprint of the encryption key; empty: not encrypted
    seconds: dict[str, float] = {}  # by step

    def blobs(self) -> list[Blob]:
        """Every object of its own (files of the file store are named by the inventory)."""
        found = [database.dump for database in self.postgres.databases]
        found.append(self.postgres.globals_)
        found += [collection.snapshot for collection in self.vectors.collections]
        found.append(self.files.inventory)
        if self.golden:
            found.append(self.golden.answers)
        return found

    @property
    def size(self) -> int:
        """Bytes in the store, without files that earlier points brought."""
        return sum(blob.size for blob in self.blobs()) + self.files.added_bytes

    def database(self, role: str) -> Database:
        """The platform's or Dagster's database. Raises BackupError if the point has none."""
        for database in self.postgres.databases:
            if database.role == role:
                return database
        raise BackupError(f"Recovery point {self.id} has no {role} database; nothing was changed.")


class Verification(msgspec.Struct, frozen=True):
    """What came of reading a point back; bound to one manifest by its hash."""

    point: str
    manifest_sha256: str
    at: datetime
    result: Literal["verified", "failed"]
    reason: str = ""
    seconds: float = 0.0


class Failure(msgspec.Struct, frozen=True):
    """A try that did not become a point."""

    point: str
    at: datetime
    reason: str


def folder(point: str) -> str:
    """The prefix of a point's own objects."""
    return f"points/{point}/"


def manifest_key(point: str) -> str:
    return f"{folder(point)}manifest.json"


def verification_key(point: str) -> str:
    return f"{folder(point)}verification.json"


def failure_key(point: str) -> str:
    return f"{folder(point)}failure.json"


def check_id(point: str) -> str:
    """The id, if it is one: a night (`2026-11-24`) or a moment (`2026-11-24T031500Z`). Raises BackupError."""
    if not _ID.fullmatch(point):
        raise BackupError(
            f"{point!r} is no recovery point: write a night (2026-11-24), a moment (2026-11-24T031500Z) or `latest`."
        )
    return point


def id_by_hand(now: datetime) -> str:
    """The id of a point that somebody makes at this moment."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H%M%SZ")


def encode_manifest(manifest: Manifest) -> bytes:
    """JSON with the hash of its content, so that a flipped byte in it is found too."""
    content = msgspec.json.encode(manifest)
    envelope = {"sha256": hashlib.sha256(content).hexdigest(), "manifest": msgspec.Raw(content)}
    return msgspec.json.format(msgspec.json.encode(envelope), indent=1) + b"\n"


def decode_manifest(data: bytes, where: str) -> Manifest:
    """Read a manifest; `where` is told in errors. Raises PointDamaged, or BackupError for one from a later version."""
    try:
        envelope: Mapping[str, Any] = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        # The layout on disk is for people; the hash is of the compact form.
        content = msgspec.json.format(bytes(envelope["manifest"]), indent=-1)
        told = msgspec.json.decode(bytes(envelope["sha256"]), type=str)
        said = msgspec.json.decode(content, type=dict[str, Any]).get("format")
    except (msgspec.DecodeError, KeyError, ValueError) as error:
        raise PointDamaged(f"{where} is damaged: it is no manifest ({error}). Nothing was changed.") from None
    if isinstance(said, int) and said > FORMAT:
        raise BackupError(
            f"{where} has format {said} and was written by a later version of zhiyun; this one reads up to {FORMAT}. "
            "Install that version. Nothing was changed."
        )
    if hashlib.sha256(content).hexdigest() != told:
        raise PointDamaged(
            f"{where} is damaged: its content does not have the hash that it states. Nothing was changed."
        )
    try:
        return msgspec.json.decode(content, type=Manifest)
    except msgspec.DecodeError as error:
        raise PointDamaged(f"{where} cannot be read as a manifest ({error}). Nothing was changed.") from None
