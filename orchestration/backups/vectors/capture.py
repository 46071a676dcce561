"""Capturing the vector store: every collection as a snapshot that flows into the recovery point, and the aliases.

The node makes a snapshot on its own disk, from where it is read once and deleted. Vectors are derived data: the database
is the record, so what is written while this goes on is put right after a restore (`knowledge.releases.recovery`).
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx

from objects.store import ObjectStore
from orchestration.backups.recovery_point import Blob, Collection, VectorsPart
from orchestration.backups.streams.blobs import write_blob
from orchestration.backups.vectors.node import Limits, Node, NodeError, Say, quoted
from zhiyun.settings import QdrantSettings

if TYPE_CHECKING:
    from orchestration.backups.streams.encryption import Keys

_PIECE = 1 << 20
_TRIES = 4  # to take a snapshot while nobody writes
_PAUSE = 2.0  # seconds between them
_ROUNDS = 3  # of looking whether an alias now leads to a collection that was not there before
_PLAIN = re.compile(r"[A-Za-z0-9._-]{1,160}")


def capture(
    settings: QdrantSettings,
    store: ObjectStore,
    prefix: str,
    *,
    keys: Keys | None = None,
    say: Say | None = None,
    progress: Callable[[int], None] | None = None,
    skip: Callable[[str], bool] = lambda _: False,
    limits: Limits | None = None,
) -> VectorsPart:
    """Write a snapshot of every collection below `prefix` (`points/ID/ATTEMPT/`).

    Collections that `skip` names are passed over, for example what a trial restore left. Nothing stays on the node. Raises
    BackupError, which names QDRANT_URL, and what the store raises; what was written by then is left for `points.orphans`.
    """
    with Node(settings, say=say, limits=limits) as node:
        about = node.about()
        taken: dict[str, Collection] = {}
        aliases = node.aliases()
        for _ in range(_ROUNDS):
            waiting = [name for name in node.names() if name not in taken and not skip(name)]
            if not waiting:
                break
            for name in waiting:
                # Only a server's snapshots hold air: a plain tar, half of it preallocated.
                found = _capture(node, name, store, prefix, keys, about.engine == "qdrant", progress)
                if found is not None:
                    taken[name] = found
            aliases = node.aliases()
            if all(name in taken or skip(name) for name in aliases.values()):
                break
        aliases = {alias: name for alias, name in aliases.items() if name in taken}
        collection, release = _live(taken, aliases.get(settings.collection))
        return VectorsPart(
            engine=about.engine,
            version=about.version,
            collections=tuple(taken[name] for name in sorted(taken)),
            aliases=aliases,
            live_release=release,
            live_collection=collection,
        )


def sweep_node_snapshots(node: Node, older_than: timedelta, *, dry_run: bool = False) -> list[str]:
    """Delete snapshots that lie on the node longer than that; gives `collection/snapshot` of each.

    The node tells of a collection's snapshots only while there is the collection, and of those of the whole store.
    """
    before = datetime.now(UTC) - older_than
    swept: list[str] = []
    for name in node.names():
        listed = node.small(f"list the snapshots of {name}", lambda client, name=name: client.list_snapshots(name))
        for each in listed:
            if _older(each.creation_time, before):
                if not dry_run:
                    delete_snapshot(node, name, each.name)
                swept.append(f"{name}/{each.name}")
    for each in node.small("list its full snapshots", lambda client: client.list_full_snapshots()):
        if _older(each.creation_time, before):
            if not dry_run:
                node.small(
                    f"delete the snapshot {each.name}",
                    lambda client, each=each: client.delete_full_snapshot(each.name, wait=True),
                )
            swept.append(each.name)
    return swept


def delete_snapshot(node: Node, collection: str, snapshot: str) -> None:
    """Delete a snapshot of a collection on the node."""
    node.small(
        f"delete the snapshot {snapshot}",
        lambda client: client.delete_snapshot(collection, snapshot, wait=True),
    )


def blob_key(prefix: str, collection: str, *, encrypted: bool) -> str:
    """The key of a collection's snapshot. A name that is no plain file name is shortened, with its hash."""
    name = collection
    if not _PLAIN.fullmatch(collection):
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", collection)[:60]
        name = f"{plain}-{hashlib.sha256(collection.encode()).hexdigest()[:12]}"
    return f"{prefix}qdrant-{name}.snapshot{'.age' if encrypted else ''}"


def _capture(
    node: Node,
    name: str,
    store: ObjectStore,
    prefix: str,
    keys: Keys | None,
    compress: bool,
    progress: Callable[[int], None] | None,
) -> Collection | None:
    """A collection's snapshot in the store; None when the collection went meanwhile."""
    try:
        points, settled, made = _make(node, name)
    except NodeError as error:
        if error.status == 404 and name not in node.names():  # pruned
            node.say(f"the collection {name} is gone meanwhile")
            return None
        raise
    try:
        config = node.config(name)
        flow = _download(node, name, made)
        key = blob_key(prefix, name, encrypted=keys is not None)
        blob: Blob = write_blob(store, key, flow, keys=keys, compress=compress, progress=progress)
    except BaseException:
        with suppress(NodeError):
            delete_snapshot(node, name, made["name"])
        raise
    try:
        delete_snapshot(node, name, made["name"])
    except NodeError as error:  # what was read is whole all the same, and the sweep comes by
        node.say(str(error))
    return Collection(name, blob, points, config, checksum=made.get("checksum") or "", settled=settled)


def _make(node: Node, name: str) -> tuple[int, bool, dict[str, Any]]:
    """A fresh snapshot on the node: points, whether nobody wrote meanwhile, and the node's description of it."""
    before = node.count(name)
    for attempt in range(1, _TRIES + 1):
        what = f"make a snapshot of {name}"
        node.say(f"{what}: {before} points")
        response = node.watched(
            what,
            lambda: node.http.post(f"/collections/{quoted(name)}/snapshots?wait=true", timeout=node.working()),
        )
        node.require(what, response)
        made: dict[str, Any] = response.json()["result"]
        try:
            after = node.count(name)
        except BaseException:
            with suppress(NodeError):
                delete_snapshot(node, name, made["name"])
            raise
        if after == before or attempt == _TRIES:
            return after, after == before, made
        node.say(f"{name} was written to meanwhile ({before} points, then {after}): once more")
        delete_snapshot(node, name, made["name"])
        time.sleep(_PAUSE)
        before = node.count(name)
    raise AssertionError("the last try returns")


def _download(node: Node, name: str, made: dict[str, Any]) -> Iterator[bytes]:
    """The bytes of a snapshot as they come. Raises NodeError at the end when they are not what the node made."""
    what = f"send the snapshot {made['name']}"
    digest, size = hashlib.sha256(), 0
    path = f"/collections/{quoted(name)}/snapshots/{quoted(made['name'])}"
    try:
        # As it is: a server packs answers where the client says that it may.
        with node.http.stream("GET", path, headers={"accept-encoding": "identity"}) as response:
            if not response.is_success:
                response.read()
                node.require(what, response)
            for piece in response.iter_raw(_PIECE):
                digest.update(piece)
                size += len(piece)
                yield piece
    except httpx.HTTPError as error:
        raise node.failed(what, error) from error
    if size != made["size"]:
        raise NodeError(
            f"The vector store at {node.where} did not {what} whole: {size} of {made['size']} bytes came; nothing was kept."
        )
    checksum = made.get("checksum")
    if checksum and digest.hexdigest() != checksum:
        raise NodeError(
            f"The vector store at {node.where} did not {what} as it made it: its SHA-256 differs; look at the node's disk. "
            "Nothing was kept."
        )


def _live(taken: dict[str, Collection], collection: str | None) -> tuple[str | None, int | None]:
    """The live collection with its release, as the metadata behind the alias tells it."""
    if collection is None:
        return None, None
    metadata = taken[collection].config.get("metadata") or {}
    release = metadata.get("live_release")
    return collection, int(release) if release is not None else None


def _older(created: str | None, before: datetime) -> bool:
    """Whether a snapshot is older. One whose age the node does not tell is left alone."""
    if not created:
        return False
    moment = datetime.fromisoformat(created)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) < before
