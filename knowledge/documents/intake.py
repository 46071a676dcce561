"""Sources -> the catalogue's documents: what is new, changed or gone, by content hash.

A file that cannot be read is quarantined: its document gets status `failed` with the reason, its earlier version
stays answerable, and everything else goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from knowledge.database import Connection
from knowledge.documents.document import PARSER, Document, parse
from knowledge.documents.sources import (
    IntakeError,
    Scan,
    Source,
    SourceFile,
    SourceUnavailable,
    UnreadableFile,
    read_bytes,
    scan,
)

Progress = Callable[[str], None]


class NothingToTakeIn(RuntimeError):
    """No source can be read. One sentence; the catalogue is as it was."""


@dataclass(frozen=True, slots=True)
class Failure:
    uri: str
    reason: str


@dataclass(frozen=True, slots=True)
class Intake:
    """What one look through the sources found.

    The counts are of files: `seen` is the sum of unchanged, added, changed and failed ones. `passed_over` are files
    that are no documents by their name.
    """

    seen: int
    unchanged: int
    added: int
    changed: int
    failed: tuple[Failure, ...]
    removed: int
    notes: tuple[Failure, ...] = ()
    problems: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()
    uris_changed: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class _Looked:
    file: SourceFile
    sha256: str | None
    reason: str | None


def take_in(connection: Connection, sources: Sequence[Source], max_mb: float, progress: Progress) -> Intake:
    """Bring `knowledge.documents` and `knowledge.contents` up to the sources.

    A source that is missing or empty is a problem, and its documents stay as they are. Raises NothingToTakeIn when
    that is so of every source.
    """
    problems: list[str] = []
    scans: dict[str, Scan] = {}
    for source in sources:
        try:
            scans[source.name] = scan(source)
        except SourceUnavailable as error:
            problems.append(str(error))
            continue
        problems += scans[source.name].problems
    if not scans:
        raise NothingToTakeIn(" ".join(problems) or "KNOWLEDGE_SOURCES names no folder; nothing was changed.")

    files = [file for scanned in scans.values() for file in scanned.files]
    progress(f"{len(files)} files in {len(scans)} sources")
    looked = [_look(file, max_mb) for file in files]
    fresh = _stage(connection, looked)
    known = {row[0] for row in connection.execute("SELECT uri FROM knowledge.documents WHERE status <> 'removed'")}

    failed: list[Failure] = []
    notes: list[Failure] = []
    added: list[str] = []
    changed: list[str] = []
    for number, item in enumerate(looked, 1):
        if number % 200 == 0:
            progress(f"{number} of {len(looked)} files read")
        uri = item.file.uri
        if uri not in fresh:
            continue
        try:
            if item.reason is not None:
                raise UnreadableFile(item.reason)
            raw = read_bytes(item.file, max_mb)
            document = parse(raw, item.file.path)
        except IntakeError as error:
            _quarantine(connection, item, str(error))
            failed.append(Failure(uri, str(error)))
            continue
        _store(connection, item.file, document)
        (changed if uri in known else added).append(uri)
        if document.note:
            notes.append(Failure(uri, document.note))

    still_failed = connection.execute(
        "SELECT d.uri, d.reason FROM knowledge.documents d JOIN scan USING (uri) WHERE d.status = 'failed' ORDER BY d.uri"
    ).fetchall()
    already = {failure.uri for failure in failed}
    failed += [Failure(uri, reason) for uri, reason in still_failed if uri not in already]
    removed = _remove(connection, sources, scans)
    connection.execute("DROP TABLE scan")
    return Intake(
        seen=len(looked),
        unchanged=len(looked) - len(added) - len(changed) - len(failed),
        added=len(added),
        changed=len(changed),
        failed=tuple(failed),
        removed=removed,
        notes=tuple(notes),
        problems=tuple(problems),
        passed_over=tuple(f"{name}/{path}" for name, scanned in scans.items() for path in scanned.passed_over),
        uris_changed=tuple(added + changed),
    )


def _look(file: SourceFile, max_mb: float) -> _Looked:
    try:
        return _Looked(file, hashlib.sha256(read_bytes(file, max_mb)).hexdigest(), None)
    except IntakeError as error:
        return _Looked(file, None, str(error))


def _stage(connection: Connection, looked: Sequence[_Looked]) -> set[str]:
    """Compare the whole scan with the catalogue in one statement; gives the URIs that must be read."""
    connection.execute("DROP TABLE IF EXISTS scan")
    connection.execute("CREATE TEMP TABLE scan (uri text PRIMARY KEY, source text NOT NULL, sha256 text)")
    with connection.cursor().copy("COPY scan (uri, source, sha256) FROM STDIN") as copy:
        for item in looked:
            copy.write_row((item.file.uri, item.file.source, item.sha256))
    rows = connection.execute(
        """
        SELECT s.uri FROM scan s LEFT JOIN knowledge.documents d USING (uri)
        WHERE d.uri IS NULL OR d.status = 'removed' OR s.sha256 IS NULL
           OR d.sha256 IS DISTINCT FROM s.sha256 OR d.parser IS DISTINCT FROM %s
        """,
        (PARSER,),
    )
    return {row[0] for row in rows}


def _store(connection: Connection, file: SourceFile, document: Document) -> None:
    with connection.transaction():
        row = connection.execute(
            """
            INSERT INTO knowledge.contents (sha256, media_type, parser, title, encoding, note, text)
            VALUES (%s, %s, %s, %s, %s, %s, %s)
            ON CONFLICT (sha256, media_type, parser, title) DO UPDATE SET note = excluded.note
            RETURNING id
            """,
            (document.sha256, document.media_type, PARSER, document.title, document.encoding, document.note,
             document.text),
        ).fetchone()  # fmt: skip
        assert row is not None
        connection.execute(
            """
            INSERT INTO knowledge.documents (uri, source, path, status, size, sha256, parser, content_id)
            VALUES (%s, %s, %s, 'current', %s, %s, %s, %s)
            ON CONFLICT (uri) DO UPDATE SET status = 'current', reason = NULL, size = excluded.size,
                sha256 = excluded.sha256, parser = excluded.parser, content_id = excluded.content_id, changed_at = now()
            """,
            (file.uri, file.source, file.path, file.size, document.sha256, PARSER, row[0]),
        )


def _quarantine(connection: Connection, item: _Looked, reason: str) -> None:
    connection.execute(
        """
        INSERT INTO knowledge.documents (uri, source, path, status, reason, size, sha256, parser)
        VALUES (%s, %s, %s, 'failed', %s, %s, %s, %s)
        ON CONFLICT (uri) DO UPDATE SET status = 'failed', reason = excluded.reason, size = excluded.size,
            sha256 = excluded.sha256, parser = excluded.parser, changed_at = now()
        """,
        (item.file.uri, item.file.source, item.file.path, reason, item.file.size, item.sha256, PARSER),
    )


def _remove(connection: Connection, sources: Sequence[Source], scans: dict[str, Scan]) -> int:
    """Mark what is gone: files that left a source, and everything of sources that are no longer named.

    A document below a folder that could not be read is not gone, and neither is one of a source that is missing.
    """
    missing = connection.execute(
        """
        SELECT d.id, d.source, d.path FROM knowledge.documents d
        WHERE d.status <> 'removed' AND NOT EXISTS (SELECT FROM scan s WHERE s.uri = d.uri)
        """
    ).fetchall()
    named = {source.name for source in sources}
    gone = [
        identity
        for identity, source, path in missing
        if source not in named or (source in scans and scans[source].knows(path))
    ]
    connection.execute(
        "UPDATE knowledge.documents SET status = 'removed', reason = NULL, content_id = NULL, changed_at = now() "
        "WHERE id = ANY(%s)",
        (gone,),
    )
    return len(gone)
