"""Whatever is killed while a recovery point is made: what is listed as a point is whole, and the next try works.

`pg_dump`, the process that makes the backup, the object store, PostgreSQL and the vector store are killed at random
moments of a backup. BACKUP_KILLS_SEED draws the same moments again.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta

import boto3
import pytest

from embedded.services import ports, postgres
from embedded.services.processes import Service, running
from objects import s3_uploads, unfinished
from objects.store import ObjectStore
from orchestration.backups.files.inventory import entries
from orchestration.backups.points import catalogue, retention
from orchestration.backups.recovery_point import manifest_key, verification_key
from orchestration.backups.vectors import capture as vectors_capture
from orchestration.backups.vectors.node import Node
from tests.support.backups import worker as backup_worker
from tests.support.backups.backed_up import Platform, seed, snapshots
from tests.support.backups.theatre import BUCKET, FIRST, PLACES, DagsterRun, Theatre, answers, kill, revive
from tests.support.backups.worker import Worker
from tests.support.faults.tcp_switch import Switch

pytestmark = pytest.mark.slow

PLACE_OF = {"worker": "both", "store": "bucket"}  # others: the folder, or where the round's number is odd the bucket
VICTIMS = ["pg_dump"] * 6 + ["worker"] * 5 + ["Dagster's worker"] + ["store"] * 6 + ["PostgreSQL"] * 4
VICTIMS += ["a session of PostgreSQL"] * 2 + ["vector store"] * 6
SEED = seed("BACKUP_KILLS_SEED")
_CHANCE = random.Random(SEED)
# The victims mixed, each at a share of the time that a backup takes: (victim, share, another chance for the test).
ROUNDS = [(victim, round(_CHANCE.random(), 3), _CHANCE.random()) for victim in _CHANCE.sample(VICTIMS, len(VICTIMS))]


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
            ready=lambda: answers(f"http://127.0.0.1:{port}"),
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


class told:
    """Say which kill it was with whatever goes wrong in the block."""

    def __init__(self, where: str, what: str) -> None:
        self._words = f"{what}, after {where}"

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None:
            error.add_note(self._words)
