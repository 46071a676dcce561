"""Restoring the vector store: each snapshot into a collection of its own first, then all aliases at once.

Customers go on reading the old collections until `switch`. What fails before it leaves the node as it was.
"""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from objects.store import ObjectStore
from orchestration.backups.recovery_point import BackupError, Collection, VectorsPart
from orchestration.backups.streams.blobs import read_blob
from orchestration.backups.vectors.capture import delete_snapshot
from orchestration.backups.vectors.node import Limits, Node, NodeError, Say, quoted
from zhiyun.settings import QdrantSettings

if TYPE_CHECKING:
    from orchestration.backups.streams.encryption import Keys

_RENAMED = re.compile(r"_r[0-9a-f]{6}$")
_LONGEST = 200  # of a collection's name that is made here; Qdrant takes 255 characters
_REBUILD = "Nothing was touched; the vectors can be rebuilt from the database instead (--only database)."


@dataclass(frozen=True, slots=True)
class Plan:
    """Where each collection of a point goes, and the names of those that are left out."""

    names: dict[str, str]
    left_alone: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored: the name in the point and the name here. `left_alone` are others' collections of that name.

    `replaced` are collections of the knowledge base whose place the new ones take; they are there until `discard`.
    """

    names: dict[str, str]
    left_alone: tuple[str, ...]
    replaced: tuple[str, ...]
    points: dict[str, int]

    @property
    def renamed(self) -> dict[str, str]:
        """Only those with another name than in the point: what `knowledge.releases.recovery.rename_in_record` needs."""
        return {old: new for old, new in self.names.items() if old != new}


@dataclass(frozen=True, slots=True)
class Switched:
    """Aliases before, None where there was none, and after."""

    before: dict[str, str | None]
    after: dict[str, str]


def check(node: Node, part: VectorsPart, *, into: str = "") -> Plan:
    """What `restore` would do. Raises BackupError where it cannot be done, before anything is touched."""
    if reason := misfit(node, part):
        raise BackupError(f"{reason} {_REBUILD}")
    taken, aliases = set(node.names()), node.aliases()
    alias = node.settings.collection
    if into:
        if f"{into}_".startswith(f"{alias}_"):
            raise BackupError(
                f"--into {into}: collections that begin with QDRANT_COLLECTION={alias} and `_` are tidied up by the next "
                "ingestion; choose another name. Nothing was touched."
            )
        names = {each.name: f"{into}_{each.name}" for each in part.collections}
        if found := sorted(set(names.values()) & (taken | aliases.keys())):
            raise BackupError(
                f"--into {into}: there is a collection {found[0]} at {node.where} already; choose another name, or delete "
                "it. Nothing was touched."
            )
        return Plan(names, ())
    names, left_alone = dict[str, str](), list[str]()
    others = {name for other, name in part.aliases.items() if other != alias}
    for name in (each.name for each in part.collections):
        if name not in taken and name not in aliases:
            names[name] = name
        elif name == part.aliases.get(alias) or (name.startswith(f"{alias}_") and name not in others):
            names[name] = f"{_RENAMED.sub('', name)[:_LONGEST]}_r{secrets.token_hex(3)}"
        else:
            left_alone.append(name)
    for each in part.aliases:
        if each in taken or each in names.values():
            raise BackupError(
                f"The recovery point has an alias {each}, and at {node.where} there is a collection of that name; rename "
                "or delete it. Nothing was touched."
            )
    return Plan(names, tuple(left_alone))


def restore(
    settings: QdrantSettings,
    part: VectorsPart,
    store: ObjectStore,
    *,
    keys: Keys | None = None,
    into: str = "",
    say: Say | None = None,
    progress: Callable[[int], None] | None = None,
    limits: Limits | None = None,
) -> Restored:
    """Restore every collection of a point beside what is there; no alias moves.

    With `into` they are called `<into>_<name>`, for a look or a trial, and `switch` is not for them. Raises BackupError,
    and what the store raises; the new collections are then removed.
    """
    with Node(settings, say=say, limits=limits) as node:
        plan = check(node, part, into=into)
        points: dict[str, int] = {}
        made: list[str] = []
        held = node.aliases()
        try:
            for collection in part.collections:
                if name := plan.names.get(collection.name):
                    made.append(name)
                    node.say(f"restore the collection {collection.name}" + (f" as {name}" * (name != collection.name)))
                    points[name] = _restore(node, name, collection, store, keys, progress)
        except BaseException as error:
            left = _remove(node, made)
            if left and isinstance(error, Exception):
                # Nothing leads to them; the next ingestion's tidying or the next sweep takes them.
                raise BackupError(f"{error} Left on the node, unused: {', '.join(left)}.") from error
            raise
        replaced: set[str] = set()
        if not into:
            replaced = {old for old, new in plan.names.items() if old != new}
            replaced |= {held[alias] for alias in part.aliases if alias in held}
        return Restored(plan.names, plan.left_alone, tuple(sorted(replaced - set(plan.names.values()))), points)


def switch(settings: QdrantSettings, part: VectorsPart, restored: Restored) -> Switched:
    """Let readers have what was restored: each collection's own name into its metadata, then all aliases in one call.

    Raises BackupError; the aliases are then as they were, unless it says that this is not known.
    """
    with Node(settings) as node:
        for collection in part.collections:
            name, metadata = restored.names.get(collection.name), collection.config.get("metadata") or {}
            if name and "collection" in metadata:
                _set_metadata(node, name, {**metadata, "collection": name})
        after = {alias: restored.names[name] for alias, name in part.aliases.items() if name in restored.names}
        held = node.aliases()
        switched = Switched({alias: held.get(alias) for alias in after}, after)
        _move(node, dict(after))
        return switched


def switch_back(settings: QdrantSettings, switched: Switched) -> None:
    """Undo a switch: the aliases lead again to where they led. The old collections must still be there."""
    with Node(settings) as node:
        _move(node, dict(switched.before))


def discard(settings: QdrantSettings, names: Iterable[str]) -> list[str]:
    """Delete collections; gives those that went. One that an alias leads to is in use and stays."""
    with Node(settings) as node:
        used, there = set(node.aliases().values()), set(node.names())
        gone = [name for name in names if name in there and name not in used]
        for name in gone:
            delete(node, name)
        return gone


def sweep_scratch(settings: QdrantSettings, prefix: str) -> list[str]:
    """Delete what restores with `into=prefix` left; gives the names. Raises BackupError for an empty prefix."""
    if not prefix or f"{prefix}_".startswith(f"{settings.collection}_"):
        raise BackupError(f"{prefix!r} is no prefix of scratch collections; nothing was deleted.")
    with Node(settings) as node:
        found = [name for name in node.names() if name.startswith(f"{prefix}_")]
    return discard(settings, found)


def misfit(node: Node, part: VectorsPart) -> str:
    """Why snapshots of a point cannot be read by this vector store, in one sentence; empty if they can."""
    about = node.about()
    if about.engine != part.engine:
        kinds = {"qdrant": "a Qdrant server", "embedded": "the embedded vector store"}
        return (
            f"The snapshots of this recovery point are {kinds[part.engine]}'s, and at {node.where} there is "
            f"{kinds[about.engine]}, which cannot read them."
        )
    # The embedded store tries each snapshot by itself before it takes it.
    if about.engine == "qdrant" and not _fits(part.version, about.version):
        return (
            f"The snapshots of this recovery point are of Qdrant {part.version}, and at {node.where} there is Qdrant "
            f"{about.version}; a snapshot restores into the same minor version only, of the same patch or a later one."
        )
    return ""


def _fits(taken: str, here: str) -> bool:
    """Qdrant's documentation, Snapshots: from v1.4.1 only into v1.4.x, where x is at least 1."""
    numbers = [[int(part) for part in re.findall(r"\d+", version)[:3]] for version in (taken, here)]
    return len(numbers[0]) >= 2 and numbers[0][:2] == numbers[1][:2] and numbers[0] <= numbers[1]


def _restore(
    node: Node,
    name: str,
    collection: Collection,
    store: ObjectStore,
    keys: Keys | None,
    progress: Callable[[int], None] | None,
) -> int:
    """Upload a snapshot as the collection `name`; gives its points. Raises BackupError also when they are not as many."""
    file, boundary = f"zhiyun-{secrets.token_hex(8)}.snapshot", secrets.token_hex(16)
    given_up = threading.Event()

    def form() -> Iterator[bytes]:
        yield (
            f'--{boundary}\r\nContent-Disposition: form-data; name="snapshot"; filename="{file}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        for piece in read_blob(store, collection.snapshot, keys=keys, progress=progress):
            if given_up.is_set():  # ends the connection before the form is whole, so the node drops it
                raise NodeError("The upload was given up.")
            yield piece
        yield f"\r\n--{boundary}--\r\n".encode()

    def send() -> httpx.Response:
        query = {"priority": "snapshot", "wait": "true"} | (
            {"checksum": collection.checksum} if collection.checksum else {}
        )
        return node.http.post(
            f"/collections/{quoted(name)}/snapshots/upload",
            params=query,
            content=form(),
            headers={"content-type": f"multipart/form-data; boundary={boundary}"},
            timeout=node.working(),
        )

    what = f"restore the collection {name}"
    response = node.watched(what, send, given_up)
    node.require(what, response)
    # The node keeps what was uploaded. It need not, and a restore must not fill its disk.
    with suppress(NodeError):
        delete_snapshot(node, name, file)
    points = node.count(name)
    if collection.settled and points != collection.points:
        raise BackupError(
            f"The collection {name} restored at {node.where} has {points} points and the recovery point says "
            f"{collection.points}; it was removed again."
        )
    return points


def _set_metadata(node: Node, name: str, metadata: dict[str, Any]) -> None:
    node.small(
        f"set the metadata of {name}", lambda client: client.update_collection(collection_name=name, metadata=metadata)
    )


def _move(node: Node, wanted: dict[str, str | None]) -> None:
    """Let aliases lead there (None: away with it), all at once."""
    held = node.aliases()
    from qdrant_client import models

    operations: list[models.AliasOperations] = []
    for alias, name in wanted.items():
        if held.get(alias) == name:
            continue
        if alias in held:
            operations.append(models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias)))
        if name is not None:
            created = models.CreateAlias(collection_name=name, alias_name=alias)
            operations.append(models.CreateAliasOperation(create_alias=created))
    if not operations:
        return
    try:
        node.small("move its aliases", lambda client: client.update_collection_aliases(operations))
    except NodeError as error:
        try:
            now = node.aliases()
        except NodeError:
            raise BackupError(
                f"{error} It is not known whether the aliases have moved: see `GET /aliases` before anything is deleted."
            ) from error
        if any(now.get(alias) != name for alias, name in wanted.items()):
            raise


def _remove(node: Node, names: Iterable[str]) -> list[str]:
    """Delete what was begun; gives what may be left."""
    left: list[str] = []
    for name in names:
        try:
            delete(node, name)
        except NodeError:
            left.append(name)
    return left


def delete(node: Node, name: str) -> None:
    """Delete a collection. One that is not there is no error, in either engine."""
    node.small(f"delete the collection {name}", lambda client: client.delete_collection(name))
