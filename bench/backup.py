"""Backups of the database beside the manual's `pg_dump | gzip` and beside bare `pg_dump | zstd`; restores beside `pg_restore`.

One database of 1 GB of Chinese conversations (BENCH_BACKUP_GB), and for memory four times that. The manual's way writes a
file, and so does ours beside it, into a store that is a folder. Beside bare `pg_dump | zstd`, which writes a file as well,
ours writes to an S3 endpoint on this machine, by multipart, hashed on the way.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep

import psutil
import psycopg
from psycopg import sql

from bench import messages
from bench.results import Row
from bench.services import s3_server
from embedded.attach import exported
from embedded.services import ports, postgres
from embedded.services.processes import running
from migrations.__main__ import upgrade
from zhiyun.postgresql import client_programs, connection

_GIGABYTES = float(os.environ.get("BENCH_BACKUP_GB", "1"))
_ROUNDS = 3
_MB = 1e6


def run() -> Iterable[Row]:
    """Rows for one size, and the peak memory of two sizes."""
    with tempfile.TemporaryDirectory(prefix="zhiyun-bench-") as folder, _database(Path(folder)) as base:
        base.fill(_GIGABYTES)
        yield from _backups(base)
        yield from _restores(base)
        small = base.peak()
        base.multiply(4)
        large = base.peak()
        yield Row(
            "backup.peak_mb",
            large,
            "MB",
            f"{4 * _GIGABYTES:g} GB dumped; {small:.0f} MB at {_GIGABYTES:g} GB",
            300,
            False,
        )
        yield Row("backup.peak_growth", large / small, "x", "peak at four times the size", 1.15, False)


def _backups(base: _Base) -> Iterator[Row]:
    target, _ = connection(base.url)
    dump = f'"{base.programs.path("pg_dump")}" --dbname="{target}"'
    archive, manual = base.folder / "bare.zst", base.folder / "manual.gz"
    manual_times: list[float] = []
    folder_times: list[float] = []
    bare_times: list[float] = []
    our_times: list[float] = []
    for number in range(_ROUNDS):  # in turn: the machine's speed drifts
        bare_times.append(base.shell(f'{dump} -Fc -Z0 | zstd -q -3 -T0 -f -o "{archive}"'))
        our_times.append(base.ours("dump"))
        if number < 2:
            manual_times.append(base.shell(f'{dump} | gzip > "{manual}"'))
        with exported({"BACKUP_STORES": str(base.folder / "store")}):
            folder_times.append(base.ours("dump"))
    bare, ours, folder = (statistics.median(times) for times in (bare_times, our_times, folder_times))
    manual_time = statistics.mean(manual_times)
    alone = base.shell(f"{dump} -Fc -Z0 > /dev/null")
    base.ours("dump")
    checks = statistics.median(base.ours("check") for _ in range(_ROUNDS))
    size = base.stored()
    raw = f"{base.raw() / 1e9:.2f} GB of dump"
    yield Row("backup.seconds", ours, "s", f"{raw} to S3, hashed, by multipart", None)
    yield Row("backup.seconds_to_folder", folder, "s", f"{raw} to a folder, hashed", None)
    yield Row("backup.bare_seconds", bare, "s", "pg_dump -Fc -Z0 | zstd -3 -T0 > file", None)
    yield Row("backup.manual_seconds", manual_time, "s", "pg_dump | gzip > file, twice", None)
    yield Row(
        "backup.speedup_of_pg_dump_alone", manual_time / alone, "x",
        f"what no backup by pg_dump can be faster than: {alone:.1f} s, nothing compressed or written", None,
    )  # fmt: skip
    yield Row("backup.speedup_vs_manual", manual_time / folder, "x", "pg_dump | gzip, both into a folder", 5)
    yield Row("backup.speedup_vs_manual_to_s3", manual_time / ours, "x", "ours to S3, the manual's into a folder", None)
    yield Row(
        "backup.size_to_manual", size / manual.stat().st_size, "x", f"{manual.stat().st_size / _MB:.0f} MB", 1, False
    )
    yield Row("backup.ratio_to_bare", ours / bare, "x", "pg_dump -Fc -Z0 | zstd -3 -T0 > file", 1.15, False)
    yield Row("verify.share_of_backup", checks / ours, "x", f"reading it back takes {checks:.1f} s", 0.25, False)


def _restores(base: _Base) -> Iterator[Row]:
    target, _ = connection(base.url)
    plain = base.folder / "plain.dump"
    base.shell(f'"{base.programs.path("pg_dump")}" --dbname="{target}" -Fc -Z0 -f "{plain}"')
    bare_times: list[float] = []
    our_times: list[float] = []
    for _ in range(_ROUNDS - 1):
        with base.empty() as name:
            into, _ = connection(base.cluster.url(name, "postgres"))
            command = f'"{base.programs.path("pg_restore")}" --exit-on-error -j2 --dbname="{into}" "{plain}"'
            bare_times.append(base.shell(command))
        with base.empty() as name:
            our_times.append(base.ours("restore", name))
    plain.unlink()
    bare, ours = statistics.median(bare_times), statistics.median(our_times)
    yield Row("restore.seconds", ours, "s", "from S3, hashed, decompressed, ready but for ANALYZE", None)
    yield Row("restore.bare_seconds", bare, "s", "pg_restore -j2 of an uncompressed file", None)
    yield Row("restore.ratio_to_bare", ours / bare, "x", "pg_restore -j2 of an uncompressed file", 1.1, False)


@dataclass
class _Base:
    """A server with a database of conversations, and an S3 endpoint."""

    folder: Path
    cluster: postgres.Cluster

    def __post_init__(self) -> None:
        self.url = self.cluster.url("zhiyun", "postgres")
        self.programs = client_programs(self.cluster.binaries.major)
        self._state = self.folder / "state.json"

    def fill(self, gigabytes: float) -> None:
        """Conversations of this size in the place of what was there, at rest on the disk."""
        with psycopg.connect(self.url, autocommit=True) as session:
            session.execute("TRUNCATE chat.conversations CASCADE")
        messages.fill(self.url, gigabytes)
        with psycopg.connect(self.url, autocommit=True) as session:
            session.execute("VACUUM ANALYZE")
            session.execute("CHECKPOINT")

    def multiply(self, times: int) -> None:
        """So many times the messages, in tables of their own."""
        with psycopg.connect(self.url, autocommit=True) as session:
            for number in range(1, times):
                name = sql.Identifier(f"messages_{number}")
                session.execute(sql.SQL("CREATE UNLOGGED TABLE {} AS TABLE chat.messages").format(name))
            session.execute("CHECKPOINT")

    @contextmanager
    def empty(self) -> Iterator[str]:
        """A new database, dropped afterwards; the write-ahead log is at rest when the block begins."""
        with psycopg.connect(self.cluster.url("postgres", "postgres"), autocommit=True) as session:
            name = sql.Identifier("bench_restored")
            session.execute(sql.SQL("CREATE DATABASE {} OWNER zhiyun TEMPLATE template0").format(name))
            session.execute("CHECKPOINT")
            yield "bench_restored"
            session.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))

    def shell(self, command: str) -> float:
        """Seconds of a shell's line. Raises CalledProcessError."""
        _, variables = connection(self.url)
        began = perf_counter()
        subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], check=True, env=variables)
        return perf_counter() - began

    def ours(self, what: str, *more: str) -> float:
        """Seconds of our own way, as the process tells them."""
        process = self._start(what, *more)
        return _seconds(process)

    def peak(self) -> float:
        """MB that the process of a dump and its children have at most. To look costs time, which is not measured here."""
        process = self._start("dump")
        watched = psutil.Process(process.pid)
        most = 0.0
        while process.poll() is None:
            with suppress(psutil.Error):
                most = max(most, sum(one.memory_info().rss for one in (watched, *watched.children(recursive=True))))
            sleep(0.05)
        _seconds(process)
        return most / _MB

    def _start(self, what: str, *more: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "bench.backup_worker", what, str(self._state), *more]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def stored(self) -> int:
        """Bytes of the last dump in the store."""
        return _field(self._state, "size")

    def raw(self) -> int:
        """Bytes of the last dump before compression."""
        return _field(self._state, "raw_size")


def _seconds(process: subprocess.Popen[str]) -> float:
    said, _ = process.communicate()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return float(said)


def _field(state: Path, name: str) -> int:
    import json

    return int(json.loads(state.read_text())["dump"][name])


@contextmanager
def _database(folder: Path) -> Iterator[_Base]:
    with ExitStack() as stack:
        cluster = postgres.prepare(folder, ports.free_port())
        stack.enter_context(running(cluster.service(), folder / "postgres.log"))
        upgrade(cluster.url("zhiyun"))
        endpoint = stack.enter_context(s3_server(folder / "s3"))
        stack.enter_context(
            exported(
                {
                    "DATABASE_URL": cluster.url("zhiyun"),
                    "DATABASE_ADMIN_URL": cluster.url("zhiyun", "postgres"),
                    "BACKUP_STORES": "s3://bench/backups",
                    "S3_ENDPOINT_URL": endpoint,
                    "S3_ACCESS_KEY_ID": "bench",
                    "S3_SECRET_ACCESS_KEY": "bench-secret",
                    "ZHIYUN_HOME": str(folder),
                }
            )
        )
        yield _Base(folder, cluster)
