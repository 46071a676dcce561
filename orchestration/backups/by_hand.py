"""Recovery points by hand in the Dagster UI: the same as `zhiyun backup now|list|show|verify|prune`."""

from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from orchestration.backups.expected import EXPECTED
from orchestration.backups.installation import Installation, installation
from orchestration.backups.making import steps
from orchestration.backups.making.verify import verify_everywhere
from orchestration.backups.points import catalogue, expiry, overview, record
from orchestration.backups.progress import Logged
from orchestration.backups.recovery_point import id_by_hand
from orchestration.exclusion import exclusive
from orchestration.failures import sentences

_TAGS = {"dagster/max_runtime": str(6 * 3600)}


class WhichPoint(dg.Config):
    """`point` is an id or `latest`; `store` a name of BACKUP_STORES, empty for the first."""

    point: str = "latest"
    store: str = ""


class Expiry(dg.Config):
    """With `dry_run` nothing is deleted."""

    dry_run: bool = True


@contextmanager
def _told(context: dg.OpExecutionContext) -> Generator[Installation]:
    with sentences(*EXPECTED):
        yield installation(Logged(context.log.info))


def _shown(context: dg.OpExecutionContext, **metadata: Any) -> None:
    context.add_output_metadata(metadata)


@dg.op(pool="database", out=dg.Out(dg.Nothing))
def recovery_point_now(context: dg.OpExecutionContext) -> None:
    """Makes a recovery point now, copies it to every store and verifies it."""
    with _told(context) as inst:
        made = steps.make(inst, id_by_hand(datetime.now(UTC)), "hand")
        record.bring_up_to_date(inst)
    _shown(context, point=made.manifest.id, points=dg.MetadataValue.md(overview.points_markdown(inst)))
    if not made.good:
        problems = "; ".join(f"{store}: {why}" for store, why in made.problems.items() if why)
        raise dg.Failure(description=f"{made.manifest.id} is not verified everywhere: {problems}", allow_retries=False)


@dg.op(out=dg.Out(dg.Nothing))
def recovery_points(context: dg.OpExecutionContext) -> None:
    """Lists the recovery points of all stores."""
    with _told(context) as inst:
        table = overview.points_markdown(inst)
        record.bring_up_to_date(inst)
    context.log.info(table)
    _shown(context, points=dg.MetadataValue.md(table))


@dg.op(out=dg.Out(dg.Nothing))
def recovery_point_content(context: dg.OpExecutionContext, config: WhichPoint) -> None:
    """Shows what is in a recovery point."""
    with _told(context) as inst:
        point = catalogue.find(inst.store(config.store), config.point)
        assert point.manifest is not None  # catalogue.find
        text = overview.as_text(point, point.manifest)
    context.log.info(text)
    _shown(context, content=dg.MetadataValue.md(f"```\n{text}\n```"))


@dg.op(pool="database", out=dg.Out(dg.Nothing))
def recovery_point_read_back(context: dg.OpExecutionContext, config: WhichPoint) -> None:
    """Reads a recovery point back, whole, from the store named, or from every store."""
    with _told(context) as inst:
        store = inst.store(config.store)
        point = catalogue.find(store, config.point).id
        problems = verify_everywhere(inst, point, [store] if config.store else None)
        record.bring_up_to_date(inst)
    _shown(context, point=point, outcome={name: why or "verified" for name, why in problems.items()})
    bad = "; ".join(f"{name}: {why}" for name, why in problems.items() if why)
    if bad:
        raise dg.Failure(description=f"{point} is not verified: {bad}", allow_retries=False)


@dg.op(pool="database", out=dg.Out(dg.Nothing))
def expired_recovery_points(context: dg.OpExecutionContext, config: Expiry) -> None:
    """Deletes what has expired, or with `dry_run` says what that is."""
    with _told(context) as inst, exclusive(inst.database.admin, "expiry of recovery points", wait=steps.WAIT):
        reports = expiry.prune(inst, dry_run=config.dry_run)
        record.bring_up_to_date(inst)
    for report in reports:
        context.log.info(report.as_text())
    _shown(context, **{report.store: dg.MetadataValue.md(report.as_markdown()) for report in reports})


@dg.job(tags=_TAGS)
def backup_now() -> None:
    """Make a recovery point by hand: `zhiyun backup now`."""
    recovery_point_now()


@dg.job(tags=_TAGS)
def backup_list() -> None:
    """List recovery points: `zhiyun backup list`."""
    recovery_points()


@dg.job(tags=_TAGS)
def backup_show() -> None:
    """Show a recovery point (launchpad: which): `zhiyun backup show`."""
    recovery_point_content()


@dg.job(tags=_TAGS)
def backup_verify() -> None:
    """Read a recovery point back (launchpad: which): `zhiyun backup verify`."""
    recovery_point_read_back()


@dg.job(tags=_TAGS)
def backup_prune() -> None:
    """Expire recovery points (launchpad: dry_run, which is the default): `zhiyun backup prune`."""
    expired_recovery_points()


JOBS = [backup_now, backup_list, backup_show, backup_verify, backup_prune]
