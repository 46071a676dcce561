"""Whatever is killed while a recovery point is made: what is listed as a point is whole, and the next try works.

`pg_dump`, the process that makes the backup, the object store, PostgreSQL and the vector store are killed at random
moments of a backup. BACKUP_KILLS_SEED draws the same moments again.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import httpx
import psutil
import psycopg
import pytest

from embedded.services import ports, postgres
from embedded.services.processes import Service, running
from objects import s3_uploads, unfinished
from objects.store import ObjectStore
from orchestration.backups.files.inventory import entries
from orchestration.backups.installation import Installation
from orchestration.backups.making import steps, verify
from orchestration.backups.points import catalogue, retention
from orchestration.backups.recovery_point import manifest_key, verification_key
from orchestration.backups.vectors import capture as vectors_capture
from orchestration.backups.vectors.node import Node
from tests.support.backups import worker as backup_worker
from tests.support.backups.backed_up import Platform, seed, snapshots
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
PLACE_OF = {"worker": "both", "store": "bucket"}  # others: the folder, or where the round's number is odd the bucket
VICTIMS = ["pg_dump"] * 6 + ["worker"] * 5 + ["Dagster's worker"] + ["store"] * 6 + ["PostgreSQL"] * 4
VICTIMS += ["a session of PostgreSQL"] * 2 + ["vector store"] * 6
SEED = seed("BACKUP_KILLS_SEED")
_CHANCE = random.Random(SEED)
# The victims mixed, each at a share of the time that a backup takes: (victim, share, another chance for the test).
ROUNDS = [(victim, round(_CHANCE.random(), 3), _CHANCE.random()) for victim in _CHANCE.sample(VICTIMS, len(VICTIMS))]


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


@pytest.fixture(scope="module")
def theatre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Theatre]:
    home = tmp_path_factory.mktemp("kills")
    home.chmod(0o755)
    print(f"\nBACKUP_KILLS_SEED={SEED}")
    with ExitStack() as stack:
        port = ports.free_port()
        moto = Service(
            name="s3",
            command=[sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            ready=lambda: _answers(f"http://127.0.0.1:{port}"),
            environment={"S3_UPLOAD_PART_MIN_SIZE": "1024"},
        )
        cluster = postgres.prepare(home, ports.free_port())
        stack.enter_context(running(moto, home / "s3.log"))
        wire = Switch(("127.0.0.1", port))
        stack.callback(wire.close)
        s3 = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1",
                          aws_access_key_id="zhiyun", aws_secret_access_key="a-secret")  # fmt: skip
        s3.create_bucket(Bucket=BUCKET)
        theatre = Theatre(Platform(home, cluster, "zhiyun", "dagster", ""), stack, wire, s3, home)
        theatre.start_postgres()
        theatre.start_qdrant()
        stack.callback(theatre.stop)
        theatre.platform.qdrant_url = theatre.qdrant.url
        theatre.platform.extra = {
            "S3_ENDPOINT_URL": f"http://127.0.0.1:{wire.port}",
            "S3_ACCESS_KEY_ID": "zhiyun",
            "S3_SECRET_ACCESS_KEY": "a-secret",
            "S3_TIMEOUT": "10",
            "S3_ATTEMPTS": "2",
            "DAGSTER_HOME": str(home / "dagster-home"),
        }
        (home / "dagster-home").mkdir()
        theatre.platform.fill(100)
        # What kills do to uploads in parts is only seen if a dump of some MB has several.
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(s3_uploads, "_PART", backup_worker.PART)
        for place in ("folder", "both"):
            theatre.make(FIRST, place)
            primary = theatre.installation(place).primary
            first = catalogue.find(primary, FIRST)
            theatre.first[primary.url] = first.manifest_sha256, first.verified_at
        for place in PLACES:  # in a worker, as it will be killed
            worker = Worker(theatre.environment(place), "2026-01-02")
            began = time.monotonic()
            assert worker.end() == ("made", "")
            theatre.seconds[place] = time.monotonic() - began
        manifest = catalogue.find(theatre.installation("folder").primary, "2026-01-02").manifest
        assert manifest
        theatre.dump_seconds = manifest.seconds["postgres"]
        print(f"\na backup takes {theatre.seconds}, dumping {theatre.dump_seconds:.2f} s")
        yield theatre


@pytest.mark.parametrize(
    ("number", "victim", "share", "chance"),
    [(number, *one) for number, one in enumerate(ROUNDS)],
    ids=[f"{number}-{victim}-at-{share}".replace(" ", "-") for number, (victim, share, _) in enumerate(ROUNDS)],
)
def test_what_is_killed_leaves_only_whole_points_and_the_next_try_works(
    theatre: Theatre, number: int, victim: str, share: float, chance: float
) -> None:
    point = (date(2026, 2, 1) + timedelta(days=number)).isoformat()
    place = PLACE_OF.get(victim, "bucket" if number % 2 else "folder")
    length = theatre.dump_seconds if victim == "pg_dump" else theatre.seconds[place]
    moment = share * length
    where = (
        f"{victim} killed {moment:.2f} s into a backup of {length:.2f} s to the {place} "
        f"(BACKUP_KILLS_SEED={SEED}, round {number})"
    )
    dagster = victim == "Dagster's worker"
    environment = theatre.environment(place)
    worker = DagsterRun(environment, point, theatre.log) if dagster else Worker(environment, point)
    time.sleep(moment)
    hit = kill(theatre, victim, worker, chance)
    outcome, said = worker.end()
    revive(theatre, victim)
    theatre.rounds += 1
    theatre.hits[victim] = theatre.hits.get(victim, 0) + (hit and outcome != "made")
    print(f"{where}: {outcome} {said}")

    allowed = ("killed", "made") if victim == "worker" or dagster else ("refused", "made")
    assert outcome in allowed, f"{where}: {outcome} {said}"
    assert "\n" not in said, f"{where}: not one line: {said}"
    with told(where, "what is listed"):
        theatre.check_points(place)
    if outcome == "refused":
        primary = theatre.installation(place).primary
        failed = next((one for one in catalogue.points(primary) if one.id == point), None)
        # Where the store itself was away nothing could be written down.
        assert failed or victim == "store", f"{where}: why it failed is not in the store: {said}"
        assert failed is None or failed.manifest or failed.reason == said, f"{where}: {failed}"
    with told(where, "the next try"):
        theatre.make(point, place)
        theatre.check_points(place)
    theatre.forget_older(place)


def test_afterwards_one_sweep_leaves_nothing_that_no_point_names(theatre: Theatre) -> None:
    theatre.make("2026-03-31", "folder")
    theatre.make("2026-03-31", "both")
    stores = [*theatre.installation("folder").stores, *theatre.installation("both").stores]
    inst = theatre.installation("folder")
    with Node(inst.qdrant) as node:
        left = snapshots(node)
        reports = retention.prune_all(
            stores,
            retention.Policy.of(inst.backup),
            datetime.now(UTC) + timedelta(hours=7),
            node_sweep=lambda dry: len(vectors_capture.sweep_node_snapshots(node, timedelta(0), dry_run=dry)),
        )
        assert snapshots(node) == []
    broken = [store.sweep(timedelta(0)) for store in stores]  # by the store's own clock, which stands
    print(f"\n{theatre.rounds} rounds, of which these ended the backup: {theatre.hits}")
    print(f"broken-off writes: {broken}, snapshots on the node: {len(left)}")
    for report in reports:
        print(report.as_text())
        assert not report.problems
        assert not report.frozen
        assert not report.expired
        assert not report.notes
    for store in stores:
        assert {item.key for item in store.list()} == named(store), store.url
    theatre.check_points("folder")
    theatre.check_points("both")
    assert not theatre.s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads")
    folders = [theatre.platform.home / "folder", theatre.platform.home / "offsite"]
    temporary = [path for folder in folders for path in folder.rglob(f"{unfinished.PREFIX}*")]
    assert temporary == []
    assert theatre.sessions() == []
    assert theatre.locks() == 0
    assert theatre.rounds < len(ROUNDS) or sum(theatre.hits.values()) >= len(ROUNDS) // 2, "the kills came too late"


def named(store: ObjectStore) -> set[str]:
    """Every key that the points of a store need."""
    keys: set[str] = set()
    for point in catalogue.points(store):
        assert point.state == "verified", f"{point.id} in {store.name} is {point.state}: {point.reason}"
        assert point.manifest
        keys |= {manifest_key(point.id), verification_key(point.id)}
        keys |= {blob.key for blob in point.manifest.blobs()}
        keys |= {entry.object for entry in entries(store, point.manifest.files, None)}
    return keys


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


class told:
    """Say which kill it was with whatever goes wrong in the block."""

    def __init__(self, where: str, what: str) -> None:
        self._words = f"{what}, after {where}"

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None:
            error.add_note(self._words)


def _answers(url: str) -> bool:
    try:
        httpx.get(url, timeout=5)
    except httpx.TransportError:
        return False
    return True
