"""How much of an index would go if it were rebuilt.

`measured` reads the whole index with pgstatindex: how full its pages are. That misses duplicates which came one by one
and which a build would put into lists, so where there are many, `estimated` is asked too. That one needs no extension: it
lays out the rows' keys as a build would (nbtsort.c), from the planner's statistics. It is as good as those are, and is
labelled so wherever it is shown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import LiteralString

from psycopg import sql

from knowledge.database import Connection
from orchestration.maintenance.indexes.catalog import Index
from orchestration.maintenance.session import Facts

_PAGE_OVERHEAD = 24 + 16  # bytes: a page's header, and what a B-tree keeps at its end
_POINTER = 4  # bytes of a page for each of its tuples
_TUPLE_HEADER = 8
_ROW_ID = 6  # bytes of one row in a list of duplicates
_LIST_SHARE = 0.1  # of a page: the longest list that a build makes
_INNER_FILL = 0.7  # BTREE_NONLEAF_FILLFACTOR
# Types whose equal values may differ in bytes: no lists of duplicates (manual, "B-Tree: Deduplication").
_NO_LISTS = {"numeric", "float4", "float8", "jsonb", "interval"}


@dataclass(frozen=True, slots=True)
class Bloat:
    """`rebuilt` is the size in bytes that a rebuild would give, `method` where that is known from."""

    size: int
    rebuilt: int
    method: str  # measured (pgstatindex), estimated (statistics), lists estimated (both), baseline

    @property
    def share(self) -> float:
        """The part of the index that would go, 0 to 1."""
        return max(0.0, 1 - self.rebuilt / self.size) if self.size else 0.0


def measured(connection: Connection, can: Facts, index: Index) -> Bloat | None:
    """Read the whole of a B-tree. None where that cannot be done: another method, no pgstattuple, no rights."""
    if index.method != "btree" or not may_measure(connection, can):
        return None
    # The comment keeps it out of the report of slow statements.
    query = sql.SQL(
        "/* zhiyun maintenance */ SELECT index_size, leaf_pages, internal_pages, avg_leaf_density, "
        "current_setting('block_size')::int FROM {}(%s::oid::regclass)"
    ).format(can.function("pgstattuple", "pgstatindex"))
    row = connection.execute(query, (index.oid,)).fetchone()
    assert row is not None
    size, leaves, inner, density, block = row
    if not leaves or math.isnan(density):
        return Bloat(size, block, "measured")
    used = leaves * (block - _PAGE_OVERHEAD) * density / 100
    new_leaves = max(1, math.ceil(used / _leaf_room(index, block)))
    new_inner = math.ceil(inner * new_leaves / leaves)
    return Bloat(size, (1 + new_leaves + new_inner) * block, "measured")


def best(connection: Connection, can: Facts, index: Index) -> Bloat | None:
    """The most that can be known of an index here; None where that is nothing."""
    read = measured(connection, can, index)
    guess = estimated(connection, index)
    if read is None or guess is None:
        return read or guess
    if guess.rebuilt < read.rebuilt and _has_lists(connection, index):
        return Bloat(read.size, guess.rebuilt, "lists estimated")
    return read


def may_measure(connection: Connection, can: Facts) -> bool:
    """Whether pgstatindex is there, and the role may call it."""
    if "pgstattuple" not in can.extensions:
        return False
    row = connection.execute(
        "SELECT has_function_privilege(format('%%I.pgstatindex(regclass)', %s::text), 'EXECUTE')",
        (can.extensions["pgstattuple"],),
    ).fetchone()
    return bool(row and row[0])


def estimated(connection: Connection, index: Index) -> Bloat | None:
    """Lay out a B-tree from statistics. None for another method, or where a column has no statistics."""
    if index.method != "btree" or index.rows < 0:
        return None
    columns = _columns(connection, index)
    if columns is None:
        return None
    row = connection.execute("SELECT current_setting('block_size')::int").fetchone()
    block = int(row[0]) if row else 8192
    key = _key_bytes(columns)
    total = _leaf_bytes(index, columns, key, block)
    # A page holds a high key, and is left when the next tuple would be half beyond what is to be filled.
    leaves = max(1, math.ceil(total / (_leaf_room(index, block) - 1.5 * (key + _POINTER))))
    pages, level = 1 + leaves, leaves
    while level > 1:
        level = math.ceil(level * (key + _POINTER) / ((block - _PAGE_OVERHEAD) * _INNER_FILL))
        pages += level
    return Bloat(index.size, pages * block, "estimated")


@dataclass(frozen=True, slots=True)
class _Column:
    key: bool
    length: int  # bytes, -1 variable
    align: int
    type: str
    deterministic: bool
    width: float | None
    nulls: float
    distinct: float  # as in pg_stats: negative is a share of the rows
    common: tuple[float, ...]


def _columns(connection: Connection, index: Index) -> list[_Column] | None:
    rows = connection.execute(_STATISTICS, {"index": index.oid}).fetchall()
    align = {"c": 1, "s": 2, "i": 4, "d": 8}
    columns = [
        _Column(
            key=r[0], length=r[1], align=align[r[2]], type=r[3], deterministic=r[4], width=r[5], nulls=r[6], distinct=r[7],
            common=tuple(r[8] or ()),
        )
        for r in rows
    ]  # fmt: skip
    return columns if all(column.width is not None for column in columns) else None


def _key_bytes(columns: list[_Column]) -> float:
    """The average bytes of an index tuple, without the pointer to it."""
    offset, variable = 0.0, False
    for column in columns:
        if column.length > 0:
            present = math.ceil(offset / column.align) * column.align + column.length
            offset = present if column.nulls < 1 else offset
        else:
            offset += (column.width or 0) * (1 - column.nulls)
            variable = True
    header = _TUPLE_HEADER + (8 * max(column.nulls for column in columns) if columns else 0)
    # Rounded up to 8 bytes: half of 7 on average where lengths vary.
    return header + (offset + 3.5 if variable else math.ceil(offset / 8) * 8)


def _leaf_bytes(index: Index, columns: list[_Column], key: float, block: int) -> float:
    rows = max(0.0, index.rows)
    if not _may_have_lists(index, columns) or rows < 1:
        return rows * (key + _POINTER)
    longest = (int(block * _LIST_SHARE) // 8 * 8) - _POINTER
    common = [share for share in (*columns[0].common, columns[0].nulls) if share] if len(columns) == 1 else []
    groups = _groups(columns, rows)
    rest_rows = rows * max(0.0, 1 - sum(common))
    rest_groups = min(rest_rows, max(1.0, groups - len(common))) if rest_rows >= 1 else 0
    total = sum(_group_bytes(share * rows, key, longest) for share in common)
    if rest_groups:
        total += rest_groups * _group_bytes(rest_rows / rest_groups, key, longest)
    return total


def _may_have_lists(index: Index, columns: list[_Column]) -> bool:
    return (
        not index.unique
        and "deduplicate_items=off" not in index.options
        and all(c.key and c.deterministic and c.type not in _NO_LISTS and not c.type.startswith("_") for c in columns)
    )


def _has_lists(connection: Connection, index: Index) -> bool:
    """Whether its keys have two rows or more each, on average."""
    columns = _columns(connection, index) or []
    return _may_have_lists(index, columns) and _groups(columns, index.rows) <= index.rows / 2


def _groups(columns: list[_Column], rows: float) -> float:
    """Different keys; of several columns as if each went with each."""
    return min(rows, math.prod(_distinct(column, rows) for column in columns))


def _group_bytes(rows: float, key: float, longest: int) -> float:
    """Bytes of one key's rows: as few lists as hold them. Between whole numbers of rows, between their bytes."""
    low = math.floor(rows)
    share = rows - low

    def whole(number: int) -> float:
        full = max(2, int((longest - key) // _ROW_ID))
        lists, left = divmod(number, full)
        total = lists * (key + full * _ROW_ID + _POINTER)
        if left == 1:
            total += key + _POINTER
        elif left:
            total += math.ceil((key + left * _ROW_ID) / 8) * 8 + _POINTER
        return total

    return whole(low) * (1 - share) + whole(low + 1) * share if share else whole(low)


def _distinct(column: _Column, rows: float) -> float:
    number = column.distinct if column.distinct >= 0 else -column.distinct * rows
    return max(1.0, number + (1 if column.nulls else 0))


def _leaf_room(index: Index, block: int) -> float:
    """Bytes of a leaf that a build fills."""
    fill = next((int(o.split("=")[1]) for o in index.options if o.startswith("fillfactor=")), 90)
    return block - _PAGE_OVERHEAD - block * (100 - fill) / 100


# pg_stats shows a role only what it may read. An expression's statistics are kept for the index itself.
_STATISTICS: LiteralString = """
    SELECT k <= i.indnkeyatts, a.attlen::int, a.attalign::text, t.typname::text,
           coalesce(co.collisdeterministic, true), s.avg_width, coalesce(s.null_frac, 0), coalesce(s.n_distinct, 0),
           s.most_common_freqs
    FROM pg_index i
    JOIN LATERAL generate_series(1, i.indnatts) k ON true
    JOIN pg_attribute a ON a.attrelid = i.indexrelid AND a.attnum = k
    JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_collation co ON co.oid = a.attcollation
    JOIN pg_class r ON r.oid = CASE WHEN i.indkey[k - 1] = 0 THEN i.indexrelid ELSE i.indrelid END
    JOIN pg_namespace n ON n.oid = r.relnamespace
    LEFT JOIN pg_attribute ta ON ta.attrelid = i.indrelid AND ta.attnum = i.indkey[k - 1] AND i.indkey[k - 1] <> 0
    LEFT JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = r.relname
         AND s.attname = coalesce(ta.attname, a.attname) AND NOT s.inherited
    WHERE i.indexrelid = %(index)s
    ORDER BY k
"""
