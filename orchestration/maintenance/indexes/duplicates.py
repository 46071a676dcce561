"""Indexes that another one makes superfluous. Only the same operator classes, collations, ordering and predicate count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby

from orchestration.maintenance.indexes.catalog import Index


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about indexes that a person may mend by `ddl`. `kind`: unused, duplicate, prefix, missing, ..."""

    kind: str
    table: str
    name: str  # the index, or the columns that have none
    size: int  # bytes that would be gained; 0 for an index that is missing
    why: str
    ddl: str


def duplicates(indexes: list[Index], quote: Callable[[str], str]) -> list[Finding]:
    """Indexes that are there twice, and those that are a prefix of another one of their table."""
    found: list[Finding] = []
    usable = sorted((i for i in indexes if i.valid and not i.partition), key=lambda i: (i.table, i.name))
    for _, group in groupby(usable, key=lambda i: i.table):
        of_table = list(group)
        gone: set[int] = set()
        for index in sorted(of_table, key=_worth):  # what guarantees least goes first
            keeper = next((o for o in of_table if o.oid not in gone and o is not index and _same(index, o)), None)
            if keeper is not None and _worth(keeper) >= _worth(index):
                gone.add(index.oid)
                why = f"the same as {keeper.name}: {keeper.definition}"
                found.append(Finding("duplicate", index.table, index.title, index.size, why, drop_ddl(index, quote)))
        for index in of_table:
            wider = next((o for o in of_table if o.oid not in gone and _prefix(index, o)), None)
            if index.oid not in gone and wider is not None:
                why = f"{wider.name} begins with its columns and is {_times(wider, index)} its size: {wider.definition}"
                found.append(Finding("prefix", index.table, index.title, index.size, why, drop_ddl(index, quote)))
    return found


def drop_ddl(index: Index, quote: Callable[[str], str]) -> str:
    """What drops an index, or the constraint that it belongs to."""
    if index.constraint:
        return f"ALTER TABLE {index.table} DROP CONSTRAINT {quote(index.constraint)};"
    return f"DROP INDEX CONCURRENTLY {quote(index.schema)}.{quote(index.name)};"


def _worth(index: Index) -> tuple[bool, ...]:
    """By what an index is kept rather than its twin."""
    return (
        index.primary,
        index.referenced,
        index.replica_identity,
        bool(index.constraint),
        index.unique,
        index.clustered,
    )


def _same(index: Index, other: Index) -> bool:
    """Whether `other` answers all that `index` does, and guarantees all that it does."""
    return (
        _shape(index) == _shape(other)
        and index.keys == other.keys
        and set(index.included) == set(other.included)
        and (not index.unique or (other.unique and other.nulls_not_distinct == index.nulls_not_distinct))
        and not (index.exclusion or index.primary or index.referenced or index.replica_identity)
    )


def _prefix(index: Index, other: Index) -> bool:
    """Whether the keys of `other` begin with those of `index`. Only B-trees serve their first columns alone as well."""
    if index.method != "btree" or index is other or index.constrains or index.referenced or index.clustered:
        return False
    if _shape(index) != _shape(other) or index.keys != other.keys[: len(index.keys)]:
        return False
    if not set(index.included) <= {*other.columns, *other.included}:
        return False
    return len(other.keys) > len(index.keys) or set(index.included) < set(other.included)


def _shape(index: Index) -> tuple[str, str]:
    return index.method, index.predicate


def _times(wider: Index, index: Index) -> str:
    return f"{wider.size / index.size:.1f} times" if index.size else "any times"
