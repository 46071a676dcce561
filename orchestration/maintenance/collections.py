"""The vector store's upkeep: is it optimized, has it its payload indexes, and what in it belongs to no release.

Qdrant optimizes by itself; a person is told when it does not. Nothing that could hold knowledge is deleted: only scratch
collections, which a drill or a trial restore was to delete itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from qdrant_client import QdrantClient, models

from knowledge.database import Connection
from knowledge.releases.collection import PAYLOAD_INDEXES, asked, release_filter
from knowledge.releases.vector_store import CURRENT
from orchestration.maintenance.session import Say, Stop, never, silent
from zhiyun.settings import QdrantSettings

SCRATCH = ("drill", "scratch")
"""Collections `<one of these>_...` are restores on trial: nothing is answered from them."""
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class CollectionState:
    """One collection. `role`: live, kept (of a release), orphan, scratch, other (not this knowledge base's)."""

    name: str
    role: str
    status: str  # green, yellow (optimizing), grey (not optimizing), red
    optimizer: str  # ok, or its error
    segments: int
    points: int
    indexed_vectors: int
    retired: int  # points that the live release does not have any more
    expected: int | None  # points that PostgreSQL has for it
    created_indexes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CollectionMaintenance:
    """`problems` are for a person; `deleted` are scratch collections."""

    collections: tuple[CollectionState, ...]
    orphans: tuple[str, ...]
    orphan_aliases: tuple[str, ...]
    deleted: tuple[str, ...]
    problems: tuple[str, ...]
    stopped: bool


def collection_maintenance(
    connection: Connection,
    settings: QdrantSettings,
    *,
    scratch: Sequence[str] = SCRATCH,
    stop: Stop = never,
    say: Say = silent,
) -> CollectionMaintenance:
    """Look at every collection, create payload indexes that are missing, delete scratch. Raises VectorStoreUnavailable.

    Nothing else may be restoring meanwhile: its scratch would be taken for a leftover.
    """
    client = QdrantClient(
        url=settings.url, api_key=settings.api_key or None, timeout=max(60, settings.timeout), check_compatibility=False
    )
    try:
        return _Work(connection, client, settings, tuple(scratch)).all(stop, say)
    finally:
        client.close()


class _Work:
    def __init__(
        self, connection: Connection, client: QdrantClient, settings: QdrantSettings, scratch: tuple[str, ...]
    ) -> None:
        self.client = client
        self.url = settings.url
        self.alias = settings.collection
        self.scratch = tuple(f"{prefix}_" for prefix in scratch if not f"{prefix}_".startswith(f"{self.alias}_"))
        self.connection = connection
        rows = connection.execute(
            "SELECT collection, number, status FROM knowledge.releases ORDER BY number"
        ).fetchall()
        self.named = {name for name, _, status in rows if status != "rejected"}
        self.live = next(((name, number) for name, number, status in rows if status == "live"), None)

    def all(self, stop: Stop, say: Say) -> CollectionMaintenance:
        aliases = {a.alias_name: a.collection_name for a in self._call(self.client.get_aliases).aliases}
        names = sorted(c.name for c in self._call(self.client.get_collections).collections)
        states: list[CollectionState] = []
        deleted: list[str] = []
        stopped = False
        for name in names:
            if stopped := stopped or stop():
                break
            role = self._role(name, aliases)
            if role == "scratch":
                say(f"deleting {name}, which a trial restore left")
                self._call(lambda name=name: self.client.delete_collection(name))
                deleted.append(name)
                continue
            states.append(self._state(name, role, say))
        orphans = [state.name for state in states if state.role == "orphan"]
        ours = {alias: target for alias, target in aliases.items() if alias != self.alias}
        orphan_aliases = [f"{alias} -> {target}" for alias, target in sorted(ours.items()) if target in orphans]
        problems = self._problems(states, aliases.get(self.alias))
        return CollectionMaintenance(
            tuple(states), tuple(orphans), tuple(orphan_aliases), tuple(deleted), tuple(problems), stopped
        )

    def _role(self, name: str, aliases: dict[str, str]) -> str:
        if name.startswith(self.scratch) and name not in aliases.values() and name not in self.named:
            return "scratch"
        if aliases.get(self.alias) == name:
            return "live"
        if name in self.named:
            return "kept"
        return "orphan" if name.startswith(f"{self.alias}_") else "other"

    def _state(self, name: str, role: str, say: Say) -> CollectionState:
        info = self._call(lambda: self.client.get_collection(name))
        created: list[str] = []
        if role in ("live", "kept"):
            for field, kind in PAYLOAD_INDEXES.items():
                if field not in info.payload_schema:
                    say(f"creating the payload index {field} of {name}")
                    self._call(
                        lambda field=field, kind=kind: self.client.create_payload_index(name, field, kind, wait=True)
                    )
                    created.append(field)
        optimizer = info.optimizer_status
        retired = 0
        if role in ("live", "kept"):
            gone = models.FieldCondition(key="removed_in", range=models.Range(lt=CURRENT))
            retired = self._count(name, models.Filter(must=[gone]))
        return CollectionState(
            name, role, info.status.value, "ok" if isinstance(optimizer, models.OptimizersStatusOneOf) else optimizer.error,
            info.segments_count, self._count(name, None), info.indexed_vectors_count or 0, retired,
            self._expected(name) if role in ("live", "kept") else None, tuple(created),
        )  # fmt: skip

    def _problems(self, states: list[CollectionState], aliased: str | None) -> list[str]:
        problems: list[str] = []
        for state in states:
            if state.status in ("red", "grey") or state.optimizer != "ok":
                why = state.optimizer if state.optimizer != "ok" else "its optimizer stands still"
                problems.append(
                    f"{state.name} is {state.status}: {why}; see the vector store's log at QDRANT_URL={self.url}."
                )
        if self.live is None:
            return problems
        name, number = self.live
        if aliased != name:
            target = aliased or "nothing"
            problems.append(
                f"The live release {number} is in {name}, and the alias {self.alias} points at {target}: "
                "run `zhiyun ingest`, which completes what was interrupted."
            )
        elif name in {state.name for state in states}:
            expected, there = self._alive(name, number), self._count(name, release_filter(number))
            if expected != there:
                problems.append(
                    f"The live release {number} has {expected} passages by the record and {there} in {name}: "
                    "run `zhiyun ingest`, which writes them again."
                )
        return problems

    def _expected(self, name: str) -> int:
        return self._number("SELECT count(*) FROM knowledge.points WHERE collection = %s", (name,))

    def _alive(self, name: str, number: int) -> int:
        return self._number(
            "SELECT count(*) FROM knowledge.points WHERE collection = %s AND added_in <= %s AND removed_in > %s",
            (name, number, number),
        )

    def _number(self, query: str, parameters: tuple[object, ...]) -> int:
        row = self.connection.execute(query.encode(), parameters).fetchone()
        return int(row[0]) if row else 0

    def _count(self, name: str, condition: models.Filter | None) -> int:
        return self._call(lambda: self.client.count(name, count_filter=condition, exact=True).count)

    def _call(self, call: Callable[[], _T]) -> _T:
        return asked(self.url, call)
