"""Capacity in the Dagster UI: disks, memory, connections and sizes, each with its checks and its history."""

from collections.abc import Sequence
from typing import Any

import dagster as dg
import psycopg

from knowledge.database import Connection, DatabaseUnavailable, connect
from orchestration.capacity import connections, disk, memory, plots, report, samples, sizes
from orchestration.capacity.samples import Sample
from orchestration.failures import sentences
from zhiyun.settings import (
    BackupSettings,
    CapacitySettings,
    DatabaseSettings,
    QdrantSettings,
    RedisSettings,
    S3Settings,
    SettingsError,
    load,
)

_COMMON: dict[str, Any] = {"group_name": "capacity", "owners": ["team:platform"]}


def _open(context: dg.AssetExecutionContext) -> Connection | None:
    """The database, or None with a warning: a disk is measured all the more when the database is down."""
    settings = load(DatabaseSettings)
    try:
        return connect(settings.model_copy(update={"url": settings.admin}))
    except DatabaseUnavailable as error:
        context.log.warning(f"{error}; nothing is stored of this measurement")
        return None


def _keep(
    context: dg.AssetExecutionContext,
    connection: Connection | None,
    found: Sequence[Sample],
    settings: CapacitySettings,
) -> None:
    """Store samples; a database that cannot take them (its disk may be full) is no reason not to tell what was found."""
    if connection is None:
        return
    try:
        samples.keep(connection, found, settings.keep_days)
    except psycopg.OperationalError as error:
        context.log.warning(f"The samples were not stored: {str(error).strip()}")


def _severity(level: disk.Level) -> dg.AssetCheckSeverity:
    return dg.AssetCheckSeverity.WARN if level in ("ok", "warning") else dg.AssetCheckSeverity.ERROR


@dg.asset(
    **_COMMON,
    kinds={"postgres"},
    check_specs=[
        dg.AssetCheckSpec(
            "room", asset="disk_capacity",
            description="No disk is fuller than CAPACITY_WARNING_PERCENT (a warning), CAPACITY_SERIOUS_PERCENT or "
            "CAPACITY_CRITICAL_PERCENT (errors; past the last, ingestion and backups do not start).",
        ),
        dg.AssetCheckSpec(
            "not_full_soon", asset="disk_capacity",
            description="At its present growth no disk is full within CAPACITY_FULL_DAYS.",
        ),
        dg.AssetCheckSpec("measured", asset="disk_capacity", description="Every folder could be measured."),
    ],
)  # fmt: skip
def disk_capacity(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """How full the disks of the database, the vectors, the files and the logs are, and when they will be full."""
    settings = load(CapacitySettings)
    with sentences(SettingsError, DatabaseUnavailable):
        found = disk.measure(disk.volumes(settings))
    connection = _open(context)
    try:
        judged = report.judge(found, settings, connection)
        _keep(context, connection, report.disk_samples(judged), settings)
    finally:
        if connection is not None:
            connection.close()
    for one in judged.disks:
        (context.log.info if one.level == "ok" else context.log.warning)(f"{one.level}: {one.told()}")
    soon = judged.soon_full(settings)
    return dg.MaterializeResult(
        metadata={
            "level": judged.level,
            "fullest_percent": round(max((one.filesystem.percent for one in judged.disks), default=0.0), 2),
            "disks": dg.MetadataValue.md(report.disks_markdown(judged)),
            "biggest_growers": dg.MetadataValue.md(report.growers_markdown(judged.growers)),
            "problems": list(judged.problems),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="room", passed=judged.level == "ok", severity=_severity(judged.level),
                metadata={"level": judged.level}, description="; ".join(o.told() for o in judged.disks if o.level != "ok"),
            ),
            dg.AssetCheckResult(
                check_name="not_full_soon", passed=not soon, severity=dg.AssetCheckSeverity.WARN,
                description="; ".join(one.told() for one in soon),
            ),
            dg.AssetCheckResult(
                check_name="measured", passed=not judged.problems, severity=dg.AssetCheckSeverity.WARN,
                description="; ".join(judged.problems),
            ),
        ],
    )  # fmt: skip


@dg.asset(
    **_COMMON,
    kinds={"python"},
    check_specs=[
        dg.AssetCheckSpec(
            "within_limits", asset="memory_capacity",
            description="No service uses more than CAPACITY_MEMORY_PERCENT of its memory limit.",
        )
    ],
)  # fmt: skip
def memory_capacity(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """The memory of each service that can be seen from here against its limit, and of the machine."""
    settings = load(CapacitySettings)
    found = memory.measure(settings)
    high = [one for one in found if one.percent > settings.memory_percent]
    connection = _open(context)
    drawn: list[str] = []
    if connection is not None:
        with connection:
            _keep(context, connection, report.memory_samples(found), settings)
            drawn = [_plot(connection, "memory", one.service, settings.memory_percent, settings) for one in found]
    return dg.MaterializeResult(
        metadata={
            "services": dg.MetadataValue.md("\n\n".join([report.memory_markdown(found), *filter(None, drawn)])),
            **{f"{one.service}_percent": round(one.percent, 1) for one in found if one.limit},
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="within_limits", passed=not high, severity=dg.AssetCheckSeverity.WARN,
                description="; ".join(
                    f"{o.service} uses {disk.size(o.used)}, {o.percent:.0f} % of {disk.size(o.limit)} ({o.source})" for o in high
                ),
            )
        ],
    )  # fmt: skip


@dg.asset(
    **_COMMON,
    kinds={"postgres"},
    check_specs=[
        dg.AssetCheckSpec(
            "connections_left", asset="connection_capacity",
            description="PostgreSQL and Redis can be reached and have less than CAPACITY_CONNECTIONS_PERCENT of their connections taken.",
        )
    ],
)  # fmt: skip
def connection_capacity(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """How many connections of PostgreSQL and Redis are taken, and by whom."""
    settings = load(CapacitySettings)
    found: list[connections.Connections] = []
    problems: list[str] = []
    try:
        found.append(connections.of_redis(load(RedisSettings)))
    except connections.RedisUnavailable as error:
        problems.append(str(error))
    database, drawn = load(DatabaseSettings), list[str]()
    try:
        with connect(database.model_copy(update={"url": database.admin})) as connection:
            found.insert(0, connections.of_postgres(connection))
            _keep(context, connection, report.connection_samples(found), settings)
            drawn = [
                _plot(connection, "connections", one.server, settings.connections_percent, settings) for one in found
            ]
    except DatabaseUnavailable as error:  # "too many clients" is said here too
        problems.append(str(error))
    problems += [
        f"{one.server}: {one.used} of {one.total} connections are taken ({one.percent:.0f} %)"
        for one in found
        if one.percent > settings.connections_percent
    ]
    return dg.MaterializeResult(
        metadata={
            "connections": dg.MetadataValue.md("\n\n".join([report.connections_markdown(found), *filter(None, drawn)])),
            **{f"{one.server.lower()}_used": one.used for one in found},
            **{f"{one.server.lower()}_total": one.total for one in found},
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="connections_left", passed=not problems, severity=dg.AssetCheckSeverity.WARN,
                description="; ".join(problems),
            )
        ],
    )  # fmt: skip


@dg.asset(**_COMMON, kinds={"postgres", "qdrant"})
def storage_sizes(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """Databases, tables, collections, buckets and folders by size: what the room is taken by, and what has grown."""
    settings, database = load(CapacitySettings), load(DatabaseSettings)
    with sentences(SettingsError, DatabaseUnavailable):
        watched = disk.volumes(settings)
        found = sizes.of_folders(volume for volume in watched if volume.path.is_dir())
        of_collections, problems = sizes.of_collections(load(QdrantSettings), watched)
        found += of_collections + sizes.of_buckets(load(BackupSettings), load(S3Settings))
        with connect(database.model_copy(update={"url": database.admin})) as connection:
            found += sizes.of_databases(connection) + sizes.of_tables(connection)
            _keep(context, connection, report.size_samples(found), settings)
            grown = samples.growers(connection, settings.trend_days)
    for problem in problems:
        context.log.warning(problem)
    return dg.MaterializeResult(
        metadata={
            "sizes": dg.MetadataValue.md(report.sizes_markdown(found)),
            "biggest_growers": dg.MetadataValue.md(report.growers_markdown(grown)),
            "problems": problems,
        }
    )


def _plot(connection: Connection, kind: samples.Kind, name: str, limit: float, settings: CapacitySettings) -> str:
    past = samples.history(connection, kind, name, settings.trend_days)
    return plots.percent_plot(name, [(at, 100 * used / total) for at, used, total in past if total], (limit,))
