"""The services of the embedded stack, and what each is told by its environment."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from embedded.layout import Layout
from embedded.services import ports, postgres, probes, redis
from embedded.services.processes import Service
from zhiyun.repository import REPOSITORY
from zhiyun.settings import EmbeddingSettings, ServingSettings, StackSettings, load

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Ports:
    """The port of each service."""

    serving: int
    dagster: int
    qdrant: int
    postgres: int
    redis: int
    code: int


@dataclass(frozen=True)
class Addresses:
    """Where people and programs find the services, and where those are asked whether they answer."""

    chat: str
    dagster: str
    qdrant: str

    @classmethod
    def of(cls, chosen: Ports) -> Addresses:
        """The addresses for these ports and the settings' hosts."""
        chat = ports.reachable(load(ServingSettings).host)
        ui = ports.reachable(load(StackSettings).dagster_host)
        return cls(
            chat=f"http://{chat}:{chosen.serving}",
            dagster=f"http://{ui}:{chosen.dagster}",
            qdrant=f"http://{LOOPBACK}:{chosen.qdrant}",
        )


def choose_ports(last: dict[str, int], claims: ports.Claims) -> tuple[Ports, list[str]]:
    """A port for each service, and a line for each default that was taken. Raises PortTaken.

    `last` holds the ports of the last start: they are kept where they are free.
    """
    stack, serving = load(StackSettings), load(ServingSettings)
    named = {
        "serving": ("SERVING_PORT", serving.port, "port" in serving.model_fields_set, serving.host),
        "dagster": ("DAGSTER_PORT", stack.dagster_port, "dagster_port" in stack.model_fields_set, stack.dagster_host),
        "qdrant": ("QDRANT_PORT", stack.qdrant_port, "qdrant_port" in stack.model_fields_set, LOOPBACK),
    }
    chosen: dict[str, int] = {}
    moved: list[str] = []
    # Ports that were set first: a default moves out of their way.
    for name, (variable, wanted, was_set, host) in sorted(named.items(), key=lambda item: not item[1][2]):
        chosen[name] = claims.named(variable, wanted, was_set=was_set, last=last.get(name), host=host)
        if chosen[name] != wanted:
            moved.append(f"port {wanted} is taken: {variable} is {chosen[name]} this time")
    for name in ("postgres", "redis", "code"):
        chosen[name] = claims.internal(last.get(name))
    return Ports(**chosen), moved


def environment(layout: Layout, chosen: Ports, cluster: postgres.Cluster, cache: redis.Redis) -> dict[str, str | None]:
    """What the services are told: where the others are, and which folders are theirs."""
    models = load(EmbeddingSettings).models_dir or str(layout.home / "models")
    return {
        "DATABASE_URL": cluster.url("zhiyun"),
        "DAGSTER_DATABASE_URL": cluster.url("dagster"),
        "REDIS_URL": cache.url,
        "QDRANT_URL": Addresses.of(chosen).qdrant,
        "QDRANT_PORT": str(chosen.qdrant),
        "SERVING_HOST": load(ServingSettings).host,
        "SERVING_PORT": str(chosen.serving),
        "DAGSTER_PORT": str(chosen.dagster),
        "LOG_DIR": str(layout.logs),
        "ZHIYUN_HOME": str(layout.home),
        "EMBEDDING_MODELS_DIR": models,
        "DAGSTER_HOME": str(layout.dagster),
        "DAGSTER_CODE_HOST": LOOPBACK,
        "DAGSTER_CODE_PORT": str(chosen.code),
        "PROMETHEUS_MULTIPROC_DIR": str(layout.metrics),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "PYTHONUNBUFFERED": "1",
    }


def services(
    layout: Layout, chosen: Ports, cluster: postgres.Cluster, cache: redis.Redis, told: dict[str, str | None]
) -> list[Service]:
    """The whole stack, in an order that reads well; what waits for what is in `after`."""
    addresses = Addresses.of(chosen)
    python, here = [sys.executable, "-m"], Path.cwd()
    storage = _dagster_storage(layout, told)
    workspace = ["-w", str(REPOSITORY / "workspace.yaml")]
    return [
        cluster.service(),
        cache.service(),
        vector_store(layout, chosen.qdrant, probes.http(f"{addresses.qdrant}/readyz"), told),
        Service(
            name="migrations",
            command=[*python, "migrations", "upgrade"],
            after=("postgres",),
            environment=told,
            folder=here,
            once=True,
        ),
        *storage,
        Service(
            name="code-server",
            stop_seconds=4.5,
            command=[
                *python, "dagster", "api", "grpc", "-m", "orchestration.definitions", "-h", LOOPBACK,
                "-p", str(chosen.code), "--location-name", "zhiyun", "--use-python-environment-entry-point",
            ],
            ready=probes.grpc(chosen.code),
            port=chosen.code,
            after=tuple(service.name for service in storage) or ("postgres",),
            # A call that is under way when it is told to stop is not waited for longer than it may take to stop.
            # Backups, restores and maintenance are done by its runs, as the role that may do all; the chat has another.
            environment={
                **told,
                "DAGSTER_GRPC_SHUTDOWN_GRACE_PERIOD": "1",
                "DATABASE_ADMIN_URL": cluster.url("zhiyun", "postgres"),
            },
            folder=here,
        ),
        Service(
            name="webserver",
            stop_seconds=4.5,
            command=[
                *python, "dagster_webserver", "-h", load(StackSettings).dagster_host, "-p", str(chosen.dagster), *workspace,
            ],
            ready=probes.http(f"{addresses.dagster}/server_info"),
            port=chosen.dagster,
            after=("code-server",),
            environment=told,
            folder=here,
            hint="DAGSTER_PORT, DAGSTER_HOST",
        ),
        Service(
            name="daemon",
            stop_seconds=4.5,
            # A private module: `dagster` has no daemon command, and the program `dagster-daemon` runs under whatever
            # interpreter its first line names, which in a moved or copied environment is not this one.
            command=[*python, "dagster._daemon", "run", *workspace],
            ready=probes.daemon(cluster.url("dagster"), datetime.now(UTC)),
            # After the webserver, through which runs of an earlier life are cancelled before the daemon sees them.
            after=("webserver", "migrations", "qdrant"),
            environment=told,
            folder=here,
            awaited=False,
        ),
        Service(
            name="serving",
            stop_seconds=4.5,
            command=[*python, "serving"],
            ready=probes.http(f"{addresses.chat}/api/health/live"),
            port=chosen.serving,
            after=("migrations", "redis", "qdrant"),
            environment=told,
            folder=here,
            hint="SERVING_PORT, SERVING_HOST",
        ),
    ]  # fmt: skip


def vector_store(
    layout: Layout, port: int, ready: Callable[[], bool], told: Mapping[str, str | None] | None = None
) -> Service:
    """The embedded vector store as a child process."""
    return Service(
        name="qdrant",
        command=[
            sys.executable, "-m", "embedded.qdrant", "--data", str(layout.home / "qdrant"), "--port", str(port),
        ],
        ready=ready,
        port=port,
        environment=told or {},
        folder=Path.cwd(),
        hint="QDRANT_PORT",
    )  # fmt: skip


def prepare_dagster_home(layout: Layout) -> None:
    """The repository's `dagster.yaml`, copied at each start so that a newer one is taken."""
    scratch = layout.dagster / "dagster.yaml.new"
    shutil.copyfile(REPOSITORY / "dagster.yaml", scratch)
    scratch.replace(layout.dagster / "dagster.yaml")


def _dagster_storage(layout: Layout, told: dict[str, str | None]) -> list[Service]:
    """Brings Dagster's tables up to date when its version has changed.

    A first start needs none: the code server makes the tables, and Dagster's other processes wait for it.
    """
    known = _storage_version(layout)
    if not known.exists() or known.read_text() == version("dagster"):
        return []
    return [
        Service(
            name="dagster-storage",
            command=[sys.executable, "-m", "dagster", "instance", "migrate"],
            after=("postgres",),
            environment=told,
            folder=Path.cwd(),
            once=True,
        )
    ]


def _storage_version(layout: Layout) -> Path:
    return layout.dagster / "storage-version"


def note_storage_version(layout: Layout) -> None:
    """Dagster's tables are of the version that is installed; said once its services are ready."""
    _storage_version(layout).write_text(version("dagster"))
