"""PostgreSQL and the vector store for a benchmark, empty and thrown away afterwards."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from embedded.attach import exported
from embedded.services import ports, postgres, probes
from embedded.services.processes import Service, running
from migrations.__main__ import upgrade
from zhiyun.repository import REPOSITORY


@contextmanager
def vector_store_process(home: Path) -> Generator[tuple[str, int]]:
    """A running embedded vector store, its data in `home`/qdrant; gives its URL and the number of its process."""
    port = ports.free_port()
    service = Service(
        name="qdrant",
        command=[sys.executable, "-m", "embedded.qdrant", "--data", str(home / "qdrant"), "--port", str(port)],
        ready=probes.http(f"http://127.0.0.1:{port}/readyz"),
        folder=REPOSITORY,
    )
    with running(service, home / "qdrant.log") as process:
        yield f"http://127.0.0.1:{port}", process.pid


@contextmanager
def vector_store(home: Path) -> Generator[str]:
    """A running embedded vector store; gives its URL."""
    with vector_store_process(home) as (url, _):
        yield url


@contextmanager
def services(home: Path) -> Generator[None]:
    """PostgreSQL with the platform's tables and the vector store, named by DATABASE_URL and QDRANT_URL."""
    with ExitStack() as stack:
        cluster = postgres.prepare(home, ports.free_port())
        stack.enter_context(running(cluster.service(), home / "postgres.log"))
        upgrade(cluster.url("zhiyun"))
        url = stack.enter_context(vector_store(home))
        stack.enter_context(
            exported({"DATABASE_URL": cluster.url("zhiyun"), "QDRANT_URL": url, "ZHIYUN_HOME": str(home)})
        )
        yield


@contextmanager
def s3_server(folder: Path) -> Generator[str]:
    """A running S3 endpoint that keeps objects below `folder`, with a bucket `bench`; gives its URL."""
    (folder / "bench").mkdir(parents=True)
    port = ports.free_port()
    service = Service(
        name="s3",
        command=[sys.executable, "-m", "bench.s3_endpoint", str(folder), "--port", str(port)],
        folder=REPOSITORY,
        ready=probes.http(f"http://127.0.0.1:{port}/bench"),
    )
    with running(service, folder.with_suffix(".log")):
        yield f"http://127.0.0.1:{port}"
