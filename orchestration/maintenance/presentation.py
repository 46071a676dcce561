"""What maintenance found and did, as Markdown for the Dagster UI."""

from __future__ import annotations

from orchestration.maintenance.collections import CollectionMaintenance
from orchestration.maintenance.health import DatabaseHealth
from orchestration.maintenance.indexes.rebuild import IndexMaintenance
from orchestration.maintenance.indexes.report import IndexReport
from orchestration.maintenance.markdown import code, duration, percent, size, table
from orchestration.maintenance.statements.slow import SlowQueries
from orchestration.maintenance.vacuum import Vacuumed


def vacuumed(found: Vacuumed) -> str:
    """Each table that was chosen: why, and its figures before and after."""
    return table(
        ["table", "statement", "why", "outcome", "dead rows", "changed rows", "age", "size", "took", "note"],
        (
            (
                t.table, t.statement, "; ".join(t.reasons), t.outcome,
                f"{t.before.dead:,} → {t.after.dead:,}" if t.after else f"{t.before.dead:,}",
                f"{t.before.modified:,} → {t.after.modified:,}" if t.after else f"{t.before.modified:,}",
                f"{t.before.age:,} → {t.after.age:,}" if t.after else f"{t.before.age:,}",
                f"{size(t.before.size)} → {size(t.after.size)}" if t.after else size(t.before.size),
                duration(t.seconds), t.note,
            )
            for t in found.treatments
        ),
        none="no table needed it",
    )  # fmt: skip


def rebuilds(found: IndexMaintenance) -> str:
    """Each index that was large enough: how bloated it is, how that is known, and what was done."""
    return table(
        ["index", "kind", "size", "bloat", "known from", "outcome", "size after", "took", "note"],
        (
            (r.name, r.method, size(r.size), percent(r.bloat), r.known_from, r.outcome,
             size(r.size_after) if r.size_after is not None else "", duration(r.seconds) if r.seconds else "", r.note)
            for r in found.rebuilds
        ),
        none=f"all {found.small} indexes are too small to matter",
    )  # fmt: skip


def invalid(found: IndexMaintenance) -> str:
    """Indexes that answer no query."""
    return table(
        ["index", "table", "size", "outcome", "note", "mended by"],
        ((i.name, i.table, size(i.size), i.outcome, i.note, code(i.ddl)) for i in found.invalid),
    )


def damaged(found: IndexMaintenance) -> str:
    """Indexes that amcheck complained of."""
    return table(
        ["index", "what amcheck says", "mended by"], ((d.name, d.reason, code(d.ddl)) for d in found.damage.damaged)
    )


def findings(found: IndexReport) -> str:
    """Unused, duplicate, prefix and missing indexes with their DDL."""
    return table(
        ["kind", "table", "index or columns", "size", "why", "mended by"],
        ((f.kind, f.table, f.name, size(f.size) if f.size else "", f.why, code(f.ddl)) for f in found.findings),
    )


def declared(found: IndexReport) -> str:
    """Declared indexes, and whether they are there."""
    return table(
        ["index", "outcome", "note", "statement"], ((d.name, d.outcome, d.note, code(d.ddl)) for d in found.declared)
    )


def statements(found: SlowQueries) -> str:
    """Statements by the time they took."""
    return table(
        ["statement", "slow", "calls", "mean", "total", "share", "rows", "read from disk"],
        (
            (code(s.text[:500]), "yes" if s.slow else "", f"{s.counters.calls:,}", duration(s.counters.mean_ms / 1000),
             duration(s.counters.total_ms / 1000), percent(s.share), f"{s.counters.rows:,}",
             size(s.counters.blocks_read * 8192))
            for s in found.statements
        ),
    )  # fmt: skip


def plans(found: SlowQueries) -> str:
    """The generic plans of those that took most."""
    parts = [f"{code(s.text[:500])}\n\n```\n{s.plan}\n```" for s in found.statements if s.plan]
    return "\n\n".join(parts) or "none"


def regressions(found: SlowQueries) -> str:
    """Statements that are much slower than a week ago."""
    return table(
        ["statement", "mean a week ago", "mean now", "calls"],
        ((code(r.text[:500]), duration(r.before_ms / 1000), duration(r.now_ms / 1000), f"{r.calls:,}") for r in found.regressions),
    )  # fmt: skip


def health(found: DatabaseHealth) -> str:
    """What is wrong with the database, the worst first."""
    worst_first = sorted(found.findings, key=lambda finding: finding.level != "error")
    return table(
        ["level", "what", "where", "detail", "mended by"],
        ((f.level, f.what, f.where, f.detail, code(f.mend)) for f in worst_first),
    )


def connections(found: DatabaseHealth) -> str:
    """Who is connected: pools show as so many connections of one application."""
    return table(["application", "role", "connections", "in a transaction"], found.connections)


def collections(found: CollectionMaintenance) -> str:
    """Every collection with its state."""
    return table(
        ["collection", "role", "status", "optimizer", "segments", "points", "by the record", "indexed vectors", "retired points", "payload indexes created"],
        (
            (c.name, c.role, c.status, c.optimizer, c.segments, f"{c.points:,}", "" if c.expected is None else f"{c.expected:,}",
             f"{c.indexed_vectors:,}", f"{c.retired:,}", ", ".join(c.created_indexes))
            for c in found.collections
        ),
    )  # fmt: skip
