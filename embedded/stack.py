"""`zhiyun up`: everything on one machine, in the foreground, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import time
from dataclasses import asdict, replace
from typing import Any

from embedded.definitions import (
    Addresses,
    Ports,
    choose_ports,
    environment,
    note_storage_version,
    prepare_dagster_home,
    services,
)
from embedded.layout import AlreadyRunning, HomeUnusable, Layout, layout
from embedded.runs import DagsterUnreachable, Outcome, Runs, ingest, told_of
from embedded.services import postgres, redis
from embedded.services.account import AccountError
from embedded.services.ports import Claims, PortTaken
from embedded.services.processes import (
    Identity,
    Service,
    ServiceFailed,
    child_environment,
    last_lines,
    listens,
    session_members,
    stop_left_over,
)
from embedded.starvation import STARVED, is_starved
from embedded.supervisor import Supervisor
from embedded.terminal import Announcer, table
from embedded.threads import aside, start_threads


def up() -> int:
    """Run the stack. The exit status: 0 stopped when told to, 1 did not start."""
    place = layout()
    try:
        place.make()
        lock = place.lock()
    except HomeUnusable as error:
        print(error, file=sys.stderr)
        return 1
    except AlreadyRunning:
        print(already_running(place), file=sys.stderr)
        return 1
    stack = Stack(place)
    try:
        start_threads()
        return asyncio.run(stack.run())
    except (MemoryError, RuntimeError, OSError) as error:
        if not is_starved(error):
            raise
        stack.say(f"zhiyun did not start: {_sentence(error)}")
        return 1
    finally:
        os.close(lock)


def already_running(place: Layout) -> str:
    """One line: which process has this ZHIYUN_HOME, and where its pages are."""
    state = place.state()
    urls = state.get("urls", {})
    where = f": chat {urls['chat']}, Dagster {urls['dagster']}" if urls else ""
    return f"zhiyun is already running with ZHIYUN_HOME={place.home} (process {state.get('pid', 'unknown')}){where}"


class Stack:
    """One life of the embedded stack."""

    def __init__(self, place: Layout) -> None:
        self.place = place
        self.say = Announcer(place.logs / "supervisor.log")
        self.supervisor: Supervisor | None = None
        self.began, self.began_at = time.monotonic(), time.time()
        self.ready_seconds: float | None = None
        self.phase = "starting"
        self.ports: Ports | None = None
        self.told: dict[str, str | None] = {}
        self._last_state = place.state()
        self._left_over = place.leaders()
        self._claims = Claims()
        self._stop = asyncio.Event()
        self._signals = 0
        self._identity = Identity.of(os.getpid())

    async def run(self) -> int:
        """Start, take in the knowledge if that is needed, wait to be told to stop, stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)
        main = asyncio.create_task(self._start_and_serve())
        stop = asyncio.create_task(self._stop.wait())
        await asyncio.wait({main, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        status = 0
        if main.done():
            error = main.exception()
            if error:
                status = 1
                self.say(f"zhiyun did not start: {_sentence(error)}")
        else:
            main.cancel()
        await asyncio.wait({main})
        await self._shut_down()
        return status

    def _on_signal(self) -> None:
        self._signals += 1
        self._stop.set()
        if self._signals == 2 and self.supervisor:
            self.say("hurrying")
            self.supervisor.hurry()

    async def _start_and_serve(self) -> None:
        self.say(f"starting in {self.place.home}")
        plan = await aside(self._prepare)
        self.supervisor = Supervisor(plan, self.place.logs, self.say, self._write_state)
        pending = asyncio.create_task(self._pending(self.supervisor))
        try:
            await self.supervisor.start()
        except BaseException:
            pending.cancel()
            await asyncio.wait({pending})
            raise
        note_storage_version(self.place)
        self.ready_seconds, self.phase = time.monotonic() - self.began, "ready"
        self.say(f"all services are ready ({self.ready_seconds:.1f} s)")
        self._write_state()
        await self._take_in(*await pending)
        if self.ports:
            self.say.plain(table(Addresses.of(self.ports), self.place))
        await self._stop.wait()

    def _prepare(self) -> list[Service]:
        """Everything before the first process: what an earlier life left is stopped, ports are chosen, folders made."""
        left = session_members(self._left_over, own=os.getpid())
        if left:
            self.say(f"stopping {len(left)} processes that an earlier zhiyun left behind")
            stop_left_over(left)
        chosen, moved = choose_ports(self._last_state.get("ports", {}), self._claims)
        for line in moved:
            self.say(line)
        if not (self.place.home / "postgres" / "data").exists():
            self.say("making the PostgreSQL data folder")
        cluster = postgres.prepare(self.place.home, chosen.postgres)
        cache = redis.prepare(self.place.home, chosen.redis)
        if not cache.durable:
            self.say("no Redis was found: a stand-in in Python takes its place, which keeps nothing on disk")
        prepare_dagster_home(self.place)
        shutil.rmtree(self.place.metrics, ignore_errors=True)
        self.place.metrics.mkdir(parents=True)
        self.ports, self.told = chosen, environment(self.place, chosen, cluster, cache)
        plan = services(self.place, chosen, cluster, cache, self.told)
        return [
            replace(service, after_ready=self._cancel_old_runs) if service.name == "webserver" else service
            for service in plan
        ]

    def _cancel_old_runs(self) -> None:
        """Runs that an earlier life left unfinished would hold their places for ever."""
        try:
            cancelled = self._runs().cancel_unfinished()
        except DagsterUnreachable as error:
            raise ServiceFailed(str(error)) from None
        if cancelled:
            self.say(f"cancelled {cancelled} Dagster runs that an earlier zhiyun left unfinished")

    async def _take_in(self, needed: bool, reason: str) -> None:
        """The first ingestion, if one is needed. The services stay up whatever comes of it."""
        if not needed:
            self.say(f"no ingestion is needed: {reason}")
            return
        self.say(f"ingestion is needed: {reason}")
        try:
            outcome = await aside(self._ingest)
        except DagsterUnreachable as error:
            self.say(f"the ingestion was not launched: {error}. The services are up; `zhiyun ingest` tries again.")
            return
        self.say(told_of(outcome))

    def _ingest(self) -> Outcome:
        return ingest(self._runs(), self.say, self._stop.is_set)

    def _runs(self) -> Runs:
        if not self.ports or not self.supervisor:
            raise DagsterUnreachable("the stack has no ports yet")
        webserver, port = self.supervisor.watched["webserver"], self.ports.dagster

        def is_ours() -> bool:
            identity = webserver.identity
            return identity is not None and identity.process() is not None and listens(identity.pid, port)

        return Runs(Addresses.of(self.ports).dagster, is_ours)

    async def _pending(self, supervisor: Supervisor) -> tuple[bool, str]:
        """Whether there is something to take in, and why; asked while the other services still start."""
        for name in ("migrations", "qdrant"):
            await supervisor.watched[name].is_ready.wait()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "knowledge.releases.pending",
            env=child_environment(self.told),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            out, err = await process.communicate()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.communicate()
            raise
        try:
            answer = json.loads(out.decode().strip().splitlines()[-1])
            return bool(answer["needed"]), str(answer["reason"])
        except (ValueError, IndexError, KeyError):
            lines = err.decode(errors="replace").strip().splitlines() or ["no reason given"]
            return False, f"the question could not be answered ({lines[-1]}); `zhiyun ingest` starts one"

    async def _shut_down(self) -> None:
        if not self.supervisor:
            return
        began, self.phase = time.monotonic(), "stopping"
        self.say("stopping")
        self._write_state()
        log = self.place.logs / "postgres.log"
        killed = await self.supervisor.stop()
        self.phase = "stopped"
        self._write_state()
        unclean = [name for name in killed if name != "postgres"]
        if unclean:
            self.say(f"{', '.join(unclean)} did not end in time and was killed; nothing is lost by that")
        ran = self.supervisor.watched["postgres"].leaders
        if ran and not any("database system is shut down" in line for line in last_lines(log, 3)):
            self.say(f"PostgreSQL did not shut down cleanly; it recovers at the next start (log: {log})")
        self.say(f"stopped ({time.monotonic() - began:.1f} s)")

    def _write_state(self) -> None:
        watched = self.supervisor.watched if self.supervisor else {}
        addresses = Addresses.of(self.ports) if self.ports else None
        state: dict[str, Any] = {
            "pid": os.getpid(),
            "process_started": self._identity.started if self._identity else 0,
            "phase": self.phase,
            "home": str(self.place.home),
            "logs": str(self.place.logs),
            "urls": asdict(addresses) if addresses else {},
            "ports": asdict(self.ports) if self.ports else self._last_state.get("ports", {}),
            "started": {
                "at": self.began_at,
                "ready_seconds": self.ready_seconds,
                "services": {name: one.ready_seconds for name, one in watched.items()},
            },
            "services": {
                name: {
                    "pid": one.identity.pid if one.identity and one.state not in ("done", "stopped") else None,
                    "state": one.state,
                    "port": one.service.port,
                    "restarts": one.restarts,
                    "log": str(one.log),
                    "leaders": [[leader.pid, leader.started] for leader in one.leaders],
                }
                for name, one in watched.items()
            },
        }
        try:
            self.place.write_state(state)
        except OSError as error:
            self.say(
                f"{self.place.state_file} cannot be written ({error.strerror}); `zhiyun status` may be out of date"
            )


def _sentence(error: BaseException) -> str:
    if is_starved(error):
        return STARVED
    if isinstance(error, (ServiceFailed, AccountError, PortTaken)):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename or 'a file'}: {error.strerror} (setting: ZHIYUN_HOME)"
    return f"{type(error).__name__}: {error}"
