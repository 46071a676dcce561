"""A platform whose every process can be killed while a recovery point is made, and comes back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg

from embedded.services.processes import running
from orchestration.backups.files.inventory import entries
from orchestration.backups.installation import Installation
from orchestration.backups.making import steps, verify
from orchestration.backups.points import catalogue
from orchestration.backups.recovery_point import manifest_key, verification_key
from tests.support.backups.backed_up import Platform
from tests.support.backups.worker import Worker
from tests.support.faults.tcp_switch import Switch
from tests.support.vectors.vector_store import ServerProcess
from zhiyun.repository import REPOSITORY

FIRST = "2026-01-01"
BUCKET = "recovery-points"
# Where the points of a round go: a folder, as by default; a bucket; or a bucket with a copy in a folder.
PLACES = {
    "folder": "primary={home}/folder",
    "bucket": f"primary=s3://{BUCKET}/zhiyun",
    "both": f"primary=s3://{BUCKET}/zhiyun,offsite={{home}}/offsite",
}


@dataclass
class Theatre:
    """The platform, its services, and how each of them is killed and comes back."""

    platform: Platform
    stack: ExitStack
    wire: Switch
    s3: Any
    log: Path
    seconds: dict[str, float] = field(default_factory=dict[str, float])  # that a backup takes, by place
    dump_seconds: float = 0.0  # until the databases are dumped
    checked: dict[tuple[str, str], object] = field(default_factory=dict[tuple[str, str], object])
    first: dict[str, object] = field(default_factory=dict[str, object])
    made: dict[str, Installation] = field(default_factory=dict[str, Installation])
    rounds: int = 0
    hits: dict[str, int] = field(default_factory=dict[str, int])

    def start_postgres(self) -> None:
        self.server = ExitStack()
        self.postmaster = self.server.enter_context(running(self.platform.cluster.service(), self.log / "postgres.log"))

    def start_qdrant(self, port: int | None = None) -> None:
        self.qdrant = ServerProcess(self.platform.home / "qdrant", log=self.log / "qdrant.log", port=port)
        self.qdrant.wait_until_ready()

    def stop(self) -> None:
        self.qdrant.stop()
        self.server.close()

    def sessions(self) -> list[tuple[int, str]]:
        """Sessions of PostgreSQL that are a backup's: number and name."""
        with psycopg.connect(self.platform.cluster.url("postgres", "postgres"), autocommit=True) as connection:
            return connection.execute(
                "SELECT pid, application_name FROM pg_stat_activity WHERE backend_type = 'client backend' "
                "AND (application_name LIKE 'zhiyun%' OR application_name LIKE 'pg\\_%')"
            ).fetchall()

    def locks(self) -> int:
        with psycopg.connect(self.platform.cluster.url("postgres", "postgres"), autocommit=True) as connection:
            row = connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone()
            assert row
            return int(row[0])

    def environment(self, place: str) -> dict[str, str]:
        return self.platform.environment(BACKUP_STORES=PLACES[place].format(home=self.platform.home))

    def installation(self, place: str) -> Installation:
        if place not in self.made:
            self.made[place] = self.platform.installation(BACKUP_STORES=self.environment(place)["BACKUP_STORES"])
        return self.made[place]

    def make(self, point: str, place: str) -> None:
        """A recovery point in this process, as it should be."""
        with self.platform.settings():
            made = steps.make(self.installation(place), point, "schedule")
        assert made.good, made.problems

    def forget_older(self, place: str) -> None:
        """Uncommit all but the first point and the last two: listing them takes time, and a sweep gets more to do."""
        for store in self.installation(place).stores:
            older = [point.id for point in catalogue.points(store)[2:] if point.id != FIRST]
            store.delete([key(point) for point in older for key in (manifest_key, verification_key)])

    def check_points(self, place: str) -> None:
        """Every point of the primary store that is listed as complete or verified is whole; none is listed as damaged.

        A point whose objects have not changed since it was read is not read again.
        """
        inst = self.installation(place)
        listed = {item.key: (item.size, item.modified) for item in inst.primary.list()}
        found = catalogue.points(inst.primary)
        for point in found:
            if point.manifest is None:
                assert point.committed_at is None, f"the manifest of {point.id} is damaged: {point.reason}"
                continue
            assert point.state in ("complete", "verified"), f"{point.id} is {point.state}: {point.reason}"
            keys = [blob.key for blob in point.manifest.blobs()]
            files = [entry.object for entry in entries(inst.primary, point.manifest.files, inst.keys)]
            now = point.manifest_sha256, [listed.get(key) for key in keys + files]
            if self.checked.get((inst.primary.url, point.id)) != now:
                verify.check(inst, inst.primary, point.manifest)
                self.checked[inst.primary.url, point.id] = now
        first = next(point for point in found if point.id == FIRST)
        assert first.state == "verified"
        assert (first.manifest_sha256, first.verified_at) == self.first[inst.primary.url], (
            "the first point was written again"
        )


class DagsterRun:
    """The same by a run of Dagster's job, in the process that Dagster has for it."""

    def __init__(self, environment: Mapping[str, str], night: str, logs: Path) -> None:
        self._log = logs / f"dagster-{night}.log"
        with self._log.open("wb") as stream:
            self.process = subprocess.Popen(
                [
                    sys.executable, "-m", "dagster", "job", "execute", "-m", "orchestration.definitions",
                    "-j", "nightly_backup", "--tags", json.dumps({"dagster/partition": night}),
                ],
                cwd=REPOSITORY, env={**os.environ, **environment},
                stdout=stream, stderr=subprocess.STDOUT,
            )  # fmt: skip
        deadline = time.monotonic() + 90
        while b"postgres_backup - STEP_START" not in self._log.read_bytes():
            assert self.process.poll() is None, self._log.read_text()[-3000:]
            assert time.monotonic() < deadline, self._log.read_text()[-3000:]
            time.sleep(0.02)
        self.pid = self.process.pid

    def kill(self) -> None:
        self.process.kill()

    def end(self, seconds: float = 90) -> tuple[str, str]:
        code = self.process.wait(seconds)
        return {0: "made", -signal.SIGKILL: "killed"}.get(code, f"exit {code}"), ""


def kill(theatre: Theatre, victim: str, worker: Worker | DagsterRun, chance: float) -> bool:
    """Kill -9, or for the store, whose process keeps nothing on disk, cut every wire to it. Whether there was a victim."""
    match victim:
        case "pg_dump":
            with suppress(psutil.NoSuchProcess):
                leader = psutil.Process(worker.pid)
                while leader.is_running() and leader.status() != psutil.STATUS_ZOMBIE:
                    for child in leader.children(recursive=True):
                        with suppress(psutil.NoSuchProcess):
                            if child.name() == "pg_dump" and "--format=custom" in child.cmdline():
                                child.kill()
                                return True
                    time.sleep(0.005)
            return False
        case "worker" | "Dagster's worker":
            worker.kill()
        case "store":
            theatre.wire.state = "off"
        case "PostgreSQL":
            theatre.postmaster.kill()
        case "a session of PostgreSQL":
            sessions = sorted(theatre.sessions())
            if not sessions:
                return False
            with suppress(ProcessLookupError):
                os.kill(sessions[int(chance * len(sessions))][0], signal.SIGKILL)
        case _:
            theatre.qdrant.process.kill()
    return True


def revive(theatre: Theatre, victim: str) -> None:
    """Start it again, as whoever supervises it would."""
    match victim:
        case "store":
            theatre.wire.state = "on"
        case "PostgreSQL":
            theatre.server.close()
            theatre.start_postgres()
        case "a session of PostgreSQL":  # the others end with it, and PostgreSQL starts afresh by itself
            service = theatre.platform.cluster.service()
            deadline = time.monotonic() + 60
            while not service.ready():
                assert time.monotonic() < deadline, "PostgreSQL did not come back by itself"
                time.sleep(0.05)
        case "vector store":
            theatre.qdrant.process.wait()
            theatre.start_qdrant(int(theatre.qdrant.url.rpartition(":")[2]))


def answers(url: str) -> bool:
    try:
        httpx.get(url, timeout=5)
    except httpx.TransportError:
        return False
    return True
