"""Maintenance under load: the longest that a write and a read stood still, beside what the manual's commands do to them.

Writers and readers keep at one table by its keys, in a process of their own, each statement timed. Half of the table has
been rewritten, so that there is something to do for every action. Before each action the load runs alone for a while:
`load_alone` is what the machine itself does to it. REINDEX and VACUUM FULL are what is compared with, and have no bar.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from threading import Event, Thread
from time import perf_counter, sleep

import psycopg

from bench.results import Row
from embedded.services import ports, postgres
from embedded.services.processes import running
from knowledge.database import Connection
from migrations.__main__ import upgrade
from orchestration.maintenance.health import database_health
from orchestration.maintenance.indexes.rebuild import index_maintenance
from orchestration.maintenance.indexes.report import index_report
from orchestration.maintenance.session import session
from orchestration.maintenance.statements.slow import slow_query_report
from orchestration.maintenance.vacuum import vacuum_analyze
from zhiyun.repository import REPOSITORY
from zhiyun.settings import MaintenanceSettings

ROWS = 1_000_000
BAR = 300.0  # ms
WRITERS = READERS = 2
_PAUSE = 0.002  # seconds between two statements of one client
_ALONE = 5.0  # seconds of load without an action
_TABLE = """
    CREATE TABLE load (id bigint PRIMARY KEY, word text NOT NULL, number integer NOT NULL, body text NOT NULL)
    WITH (autovacuum_enabled = off);
    INSERT INTO load SELECT i, md5(i::text), i % 1000, repeat(md5((i * 7)::text), 6) FROM generate_series(1, {rows}) i;
    CREATE INDEX load_by_word ON load (word);
    CREATE INDEX load_by_number ON load (number);
"""
# Rewrites half of the rows with other words: dead rows, and indexes with half-empty pages.
_CHURN = (
    "UPDATE load SET word = md5((id * 3 + {turn})::text), number = number + 1 WHERE id % 2 = 0",
    "DELETE FROM load WHERE id % 10 = 3 AND id < {rows}",
    "INSERT INTO load SELECT i, md5((i + {turn})::text), i % 1000, repeat(md5(i::text), 6) FROM generate_series(3, {rows} - 1, 10) i",
)


def run(rows: int = ROWS, seconds: float = _ALONE) -> Iterable[Row]:
    """Measure each action on a table of so many rows. Fewer are for a quick trial."""
    with tempfile.TemporaryDirectory() as name:
        cluster = postgres.prepare(Path(name), ports.free_port())
        with running(cluster.service(), Path(name) / "postgres.log"):
            yield from _Bench(cluster.url("zhiyun", "postgres"), rows, seconds).measure()


@dataclass(frozen=True, slots=True)
class _Stalls:
    """The longest write and read in ms, and how many there were."""

    write: float
    read: float
    count: int
    errors: int


class _Bench:
    def __init__(self, url: str, rows: int, seconds: float) -> None:
        self.url = url
        self.rows = rows
        self.seconds = seconds
        # So that a small trial has something to do as well.
        self.settings = MaintenanceSettings(
            index_min_mb=0.5,
            index_bloat=0.1,
            unused_days=0,
            declared_indexes="CREATE INDEX load_declared ON public.load (number, word)",
        )
        self.turn = 0

    def measure(self) -> Iterator[Row]:
        upgrade(self.url)
        self._execute(_TABLE.format(rows=self.rows))
        alone, _ = self._under_load(lambda: sleep(self.seconds))
        yield self._row("load_alone", alone, "no action", None)
        actions: dict[str, Callable[[Connection], object]] = {
            "vacuum_analyze": lambda c: vacuum_analyze(c, self.settings),
            "index_maintenance": self._rebuild,
            "index_report": lambda c: index_report(c, self.settings),
            "slow_query_report": lambda c: slow_query_report(c, self.settings),
            "database_health": lambda c: database_health(c, self.settings),
        }
        for name, action in actions.items():
            self._churn()
            stalls, seconds = self._under_load(lambda action=action: self._act(action))
            yield self._row(name, stalls, f"beside {alone.write:.0f} ms without it", BAR)
            yield Row(f"maintenance.{name}.seconds", seconds, "s", f"{self.rows:,} rows", None)
        for name, statement in {
            "plain_reindex": "REINDEX TABLE load",
            "vacuum_full": "VACUUM FULL load",
        }.items():
            self._churn()
            stalls, seconds = self._under_load(lambda statement=statement: self._persist(statement))
            yield self._row(name, stalls, f"{statement}: the manual's way", None)
            yield Row(f"maintenance.{name}.seconds", seconds, "s", f"{self.rows:,} rows", None)

    def _row(self, name: str, stalls: _Stalls, compared_with: str, bar: float | None) -> Row:
        longest = max(stalls.write, stalls.read)
        told = f"write {stalls.write:.0f}, read {stalls.read:.0f}, of {stalls.count:,} statements; {compared_with}"
        print(f"  {name}: {told}", flush=True)
        if stalls.errors:
            raise RuntimeError(f"{stalls.errors} statements of the load failed during {name}")
        return Row(f"maintenance.{name}.longest_stall_ms", longest, "ms", told, bar, more_is_better=False)

    def _act(self, action: Callable[[Connection], object]) -> None:
        with session(self.url, lock_timeout=self.settings.lock_timeout) as connection:
            action(connection)

    def _rebuild(self, connection: Connection) -> None:
        done = index_maintenance(connection, self.settings, free_bytes=1 << 50)
        if not done.count("rebuilt") or done.count("failed"):
            raise RuntimeError(f"nothing was rebuilt, so nothing was measured: {done.rebuilds}")

    def _churn(self) -> None:
        self.turn += 1
        for statement in _CHURN:
            self._execute(statement.format(rows=self.rows, turn=self.turn))
        self._execute("CHECKPOINT")

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement.encode())

    def _persist(self, statement: str) -> None:
        """The manual's way. A plain REINDEX and the load lock table and indexes in different orders: where it loses the
        deadlock, it is done once more with the table locked first, as it is locked in the end anyway.
        """
        try:
            self._execute(statement)
        except psycopg.errors.DeadlockDetected:
            with psycopg.connect(self.url) as connection:
                connection.execute("LOCK TABLE load")
                connection.execute(statement.encode())

    def _under_load(self, action: Callable[[], object]) -> tuple[_Stalls, float]:
        """What the load had to wait while the action ran, and how many seconds that was."""
        with _load(self.url, self.rows) as ask:
            sleep(1)  # every client is at work
            ask("begin")
            started = perf_counter()
            action()
            seconds = perf_counter() - started
            sleep(0.5)  # a statement that stands still when the action ends counts too
            return _Stalls(**json.loads(ask("end"))), seconds


@contextmanager
def _load(url: str, rows: int) -> Generator[Callable[[str], str]]:
    """The load, in a process of its own, so that nothing here delays it. It answers one line for each that it is told."""
    command = [sys.executable, "-m", "bench.maintenance", url, str(rows)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
        assert process.stdin
        assert process.stdout
        told, answers = process.stdin, process.stdout

        def ask(word: str) -> str:
            told.write(f"{word}\n")
            told.flush()
            return answers.readline()

        try:
            yield ask
        finally:
            told.close()
            process.wait()


class _Clients:
    """Writers and readers in threads: they wait for the server nearly all of the time."""

    def __init__(self, url: str, rows: int) -> None:
        self.url = url
        self.rows = rows
        self.over = Event()
        self.longest = {"write": 0.0, "read": 0.0}
        self.count = self.errors = 0
        kinds = ["write"] * WRITERS + ["read"] * READERS
        self.threads = [Thread(target=self._work, args=(kind, seed)) for seed, kind in enumerate(kinds)]

    def begin(self) -> str:
        self.longest = {"write": 0.0, "read": 0.0}
        self.count = self.errors = 0
        return "{}"

    def end(self) -> str:
        return json.dumps({**self.longest, "count": self.count, "errors": self.errors})

    def _work(self, kind: str, seed: int) -> None:
        chance = Random(seed)
        with psycopg.connect(self.url, autocommit=True) as connection:
            while not self.over.wait(_PAUSE):
                key = chance.randint(1, self.rows)
                started = perf_counter()
                try:
                    if kind == "write":
                        connection.execute("UPDATE load SET number = number + 1, word = word WHERE id = %s", (key,))
                    else:
                        connection.execute("SELECT body FROM load WHERE id = %s OR word = md5(%s)", (key, str(key)))
                except psycopg.Error:
                    self.errors += 1
                took = (perf_counter() - started) * 1000
                self.longest[kind] = max(self.longest[kind], took)
                self.count += 1


def _main(url: str, rows: int) -> None:
    clients = _Clients(url, rows)
    for thread in clients.threads:
        thread.start()
    for line in sys.stdin:
        print(clients.begin() if line.strip() == "begin" else clients.end(), flush=True)
    clients.over.set()
    for thread in clients.threads:
        thread.join()


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))
