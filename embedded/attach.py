"""The stores of a ZHIYUN_HOME for another command: those of the running stack, or started for as long as it needs them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager

from embedded.definitions import Addresses, Ports, vector_store
from embedded.layout import AlreadyRunning, Layout
from embedded.services import ports, postgres, probes
from embedded.services.passwords import passwords
from embedded.services.processes import running
from embedded.services.redis import Redis, find_binary


class NotAttached(RuntimeError):
    """The stores of this ZHIYUN_HOME cannot be reached. One sentence."""


@contextmanager
def stores(place: Layout, say: Callable[[str], None]) -> Generator[dict[str, str]]:
    """The environment in which PostgreSQL and the vector store of this ZHIYUN_HOME are reached.

    While `zhiyun up` runs they are its own; otherwise they are started, and stopped after the block, and nobody else can
    start them meanwhile. Raises NotAttached, and what the start of a service may raise.
    """
    if place.is_running():
        told = last_known(place)
        if not told:
            raise NotAttached(
                f"zhiyun is starting with ZHIYUN_HOME={place.home}; try again when it is up. Nothing was changed."
            )
        yield told
        return
    place.make()
    try:
        lock = place.lock()
    except AlreadyRunning:
        raise NotAttached(f"zhiyun has just been started with ZHIYUN_HOME={place.home}; try again.") from None
    try:
        say(f"zhiyun is not running: PostgreSQL and the vector store in {place.home} are started for this")
        claims = ports.Claims()
        number = {name: claims.internal(None) for name in ("serving", "dagster", "qdrant", "postgres", "redis", "code")}
        chosen = Ports(**number)
        cluster = postgres.prepare(place.home, chosen.postgres)
        told = environment(place, chosen)
        store = vector_store(place, chosen.qdrant, probes.http(f"{told['QDRANT_URL']}/readyz"))
        with (
            running(cluster.service(), place.logs / "postgres.log"),
            running(store, place.logs / "qdrant.log"),
        ):
            yield told
    finally:
        os.close(lock)


def environment(place: Layout, chosen: Ports) -> dict[str, str]:
    """Where the stores are, for a process that may do everything with them."""

    def url(database: str, role: str) -> str:
        password = passwords(place.home, f"postgresql:{role}")[f"postgresql:{role}"]
        return f"postgresql://{role}:{password}@127.0.0.1:{chosen.postgres}/{database}"

    return {
        "DATABASE_URL": url("zhiyun", "zhiyun"),
        "DATABASE_ADMIN_URL": url("zhiyun", "postgres"),
        "DAGSTER_DATABASE_URL": url("dagster", "zhiyun"),
        "QDRANT_URL": Addresses.of(chosen).qdrant,
        "ZHIYUN_HOME": str(place.home),
    }


def last_known(place: Layout) -> dict[str, str]:
    """Where the stores of the running stack are, or were when it last ran; empty while it starts, or if it never ran."""
    try:
        chosen = Ports(**place.state().get("ports", {}))
    except TypeError:
        return {}
    return environment(place, chosen) | {"REDIS_URL": Redis(place.home, chosen.redis, find_binary()).url}


def shell_environment(place: Layout) -> dict[str, str]:
    """What `psql`, `pg_dump` and `curl` need to speak to the running stack; empty while it starts.

    PATH begins with the programs of PostgreSQL's own version: a `pg_dump` of another does not fit.
    """
    told = last_known(place)
    if not told:
        return {}
    programs = postgres.find_binaries(postgres.major_of(place.home / "postgres" / "data")).folder
    urls = place.state().get("urls", {})
    return {
        **{name: value for name, value in told.items() if name.endswith("_URL")},
        "CHAT_URL": urls.get("chat", ""),
        "DAGSTER_UI_URL": urls.get("dagster", ""),
        "LOG_DIR": str(place.logs),
        "PATH": os.pathsep.join([str(programs), os.environ.get("PATH", os.defpath)]),
    }


@contextmanager
def exported(values: Mapping[str, str]) -> Generator[None]:
    """Environment variables of this process while the block runs."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            with contextlib.suppress(KeyError):
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
