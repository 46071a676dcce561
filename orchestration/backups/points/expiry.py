"""Expiry: what is too old, and what belongs to no point, is deleted in every store and on the vector store's own disk."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from orchestration.backups.installation import Installation
from orchestration.backups.points import retention
from orchestration.backups.vectors import capture as vectors_capture
from orchestration.backups.vectors.node import Node


def prune(inst: Installation, *, dry_run: bool) -> list[retention.Report]:
    """Delete what has expired in every store, and what belongs to no point. The caller holds the operations lock."""
    inst.progress.step("retention")

    def on_the_node(dry: bool) -> int:
        with Node(inst.qdrant) as node:
            return len(
                vectors_capture.sweep_node_snapshots(node, timedelta(days=inst.backup.node_snapshot_days), dry_run=dry)
            )

    return retention.prune_all(
        inst.stores,
        retention.Policy.of(inst.backup),
        datetime.now(UTC),
        keys=inst.keys,
        dry_run=dry_run,
        node_sweep=on_the_node,
    )
