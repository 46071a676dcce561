"""Starts services in the order of what they need, restarts one that dies, and stops them all in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from embedded.services.processes import (
    Identity,
    Service,
    ServiceFailed,
    last_lines,
    last_text,
    listens,
    runs,
    session_members,
    stop_processes,
)
from embedded.starvation import STARVED, tells_of_it
from embedded.threads import aside

_LONGEST_PAUSE = 30.0
_QUICK_DEATH = 10.0  # seconds that a service lived, below which it is said to keep dying
_LONG_LIFE = 60.0  # after which an earlier death is forgotten
_QUIET = 10.0  # seconds without a word on the terminal while something is awaited
_KILLED = 5.0  # seconds until a process that was killed is gone, unless it hangs in the system itself


@dataclass
class Watched:
    """One service and how it fares; `state` is waiting, starting, ready, done, restarting or stopped."""

    service: Service
    log: Path
    state: str = "waiting"
    process: asyncio.subprocess.Process | None = None
    identity: Identity | None = None
    # Of every life: the run workers of a code server that was killed are found by the number that it had.
    leaders: list[Identity] = field(default_factory=list[Identity])
    restarts: int = 0
    quick_deaths: int = 0
    spawned: float = 0.0
    log_begins: int = 0  # where its log was when it was spawned, in bytes
    ready_seconds: float | None = None
    is_ready: asyncio.Event = field(default_factory=asyncio.Event)


class Supervisor:
    """Runs services until it is told to stop.

    `say` gets one line for people; `changed` is called whenever a process came or went.
    """

    def __init__(
        self,
        services: list[Service],
        log_folder: Path,
        say: Callable[[str], None],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.watched = {service.name: Watched(service, log_folder / f"{service.name}.log") for service in services}
        self._say = say
        self._changed = changed
        self._stopping = False
        self._hurry = asyncio.Event()
        self._keepers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start every service as soon as those that it needs are ready.

        Returns when all that are awaited are ready. Raises ServiceFailed for the first that does not start; the
        others are then still to be stopped.
        """
        starts = {asyncio.create_task(self._first_start(one)) for one in self.watched.values()}
        awaited = starts
        try:
            while awaited:
                done, awaited = await asyncio.wait(awaited, timeout=_QUIET, return_when=asyncio.FIRST_EXCEPTION)
                for task in done:
                    task.result()
                if not done and awaited:
                    starting = [f"{one.service.name}" for one in self.watched.values() if one.state == "starting"]
                    self._say(f"still starting: {', '.join(starting)}")
        finally:
            for task in starts:
                task.cancel()

    async def stop(self) -> list[str]:
        """Stop what runs: first all that need another, at once, then the stores that they need.

        Two rounds, so that the whole stays within 10 s. Gives the names of those that had to be killed.
        """
        self._stopping = True
        for keeper in self._keepers:
            keeper.cancel()
        killed: list[str] = []
        every = self.watched.values()
        for level in ([one for one in every if one.service.after], [one for one in every if not one.service.after]):
            ended = await asyncio.gather(*(self._stop_one(one) for one in level))
            killed += [one.service.name for one, clean in zip(level, ended, strict=True) if not clean]
        self._changed()
        return killed

    def hurry(self) -> None:
        """Kill what has not ended yet."""
        self._hurry.set()

    async def _first_start(self, one: Watched) -> None:
        for name in one.service.after:
            await self.watched[name].is_ready.wait()
        await self._spawn(one)
        if not one.service.awaited:
            self._keepers.append(asyncio.create_task(self._keep(one)))
            return
        await self._wait_ready(one)
        if one.service.after_ready:
            await aside(one.service.after_ready)
        self._mark_ready(one)
        if not one.service.once:
            self._keepers.append(asyncio.create_task(self._keep(one)))

    async def _spawn(self, one: Watched) -> None:
        service = one.service
        one.state, one.spawned = "starting", time.monotonic()
        if service.before_start:
            await aside(service.before_start)
        one.log.parent.mkdir(parents=True, exist_ok=True)
        with one.log.open("ab") as log:
            one.log_begins = log.tell()
            try:
                process = await asyncio.create_subprocess_exec(*service.command, **service.spawn_options(log))
            except (OSError, subprocess.SubprocessError) as error:
                raise ServiceFailed(f"{service.name} could not be started ({service.command[0]}): {error}") from error
        one.process, one.identity = process, Identity.of(process.pid)
        if one.identity:
            one.leaders = [*one.leaders[-50:], one.identity]
        self._changed()

    async def _wait_ready(self, one: Watched) -> None:
        process, service = one.process, one.service
        if process is None:
            raise ServiceFailed(f"{service.name} was not started")
        deadline = one.spawned + service.ready_seconds
        if service.once:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), service.ready_seconds)
            if process.returncode != 0:
                raise ServiceFailed(self._failure(one, "ended" if process.returncode else "took too long"))
            return
        while process.returncode is None:
            if await aside(_is_ready, service, process.pid):
                return
            if time.monotonic() > deadline:
                raise ServiceFailed(self._failure(one, f"did not answer within {service.ready_seconds:.0f} s"))
            await asyncio.sleep(0.1)
        raise ServiceFailed(self._failure(one, "ended"))

    def _mark_ready(self, one: Watched) -> None:
        one.state = "done" if one.service.once else "ready"
        seconds = time.monotonic() - one.spawned
        again = " again" if one.restarts else ""
        self._say(f"{one.service.name} is {one.state}{again} ({seconds:.1f} s)")
        if one.ready_seconds is None:
            one.ready_seconds = seconds
        one.is_ready.set()
        self._changed()

    async def _keep(self, one: Watched) -> None:
        """Wait for the service to die, and start it again, for as long as the stack runs."""
        while not self._stopping:
            ready = asyncio.create_task(self._become_ready(one))
            if one.process:
                await one.process.wait()
            ready.cancel()
            if self._stopping:
                return
            await self._pause(one)
            try:
                await self._spawn(one)
            except ServiceFailed as error:
                self._say(str(error))

    async def _become_ready(self, one: Watched) -> None:
        """After a restart, or for a service that was not awaited: note when it answers."""
        if one.state == "ready":
            return
        answers = False
        while not answers:
            await asyncio.sleep(0.2)
            answers = await aside(self._probe, one)
        self._mark_ready(one)

    def _probe(self, one: Watched) -> bool:
        try:
            return one.process is not None and _is_ready(one.service, one.process.pid)
        except ServiceFailed:
            return False

    async def _pause(self, one: Watched) -> None:
        lived = time.monotonic() - one.spawned
        one.quick_deaths = one.quick_deaths + 1 if lived < _QUICK_DEATH else (0 if lived > _LONG_LIFE else 1)
        one.restarts += 1
        one.state = "restarting"
        pause = min(_LONGEST_PAUSE, 2.0 ** max(0, one.quick_deaths - 1))
        self._say(f"{self._failure(one, 'died')}; it is started again in {pause:.0f} s")
        if one.quick_deaths == 5:
            self._say(
                f"{one.service.name} keeps dying: it is tried again every {_LONGEST_PAUSE:.0f} s or so; see {one.log}"
            )
        self._changed()
        await asyncio.sleep(pause)

    def _failure(self, one: Watched, what: str) -> str:
        """`serving ended with status 1: last line of its log (log: path)`."""
        code = one.process.returncode if one.process else None
        how = ""
        if code is not None:
            how = f" by {signal.Signals(-code).name}" if code < 0 else f" with status {code}"
        final = one.state == "starting" and not one.restarts
        log = last_text(one.log, one.log_begins)
        if tells_of_it(log if final else log[-2000:]):  # of a long life only what came last
            return f"{one.service.name} {what}{how}: {STARVED} (log: {one.log})"
        lines = [line.strip() for line in last_lines(one.log, 5 if final else 1)]
        hint = f" (setting: {one.service.hint})" if final and one.service.hint else ""
        said = f": {' | '.join(lines)}" if lines else ""
        return f"{one.service.name} {what}{how}{hint}{said} (log: {one.log})"

    async def _stop_one(self, one: Watched) -> bool:
        """Ask, wait, kill. Whether it ended by itself."""
        process, clean = one.process, True
        helpers = await aside(session_members, one.leaders)
        own = process.pid if process else None
        others = [helper for helper in helpers if helper.pid != own]
        if process and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(one.service.stop_signal)
            if one.service.stop_signal == signal.SIGTERM:  # PostgreSQL's workers are its own affair
                for helper in others:
                    with contextlib.suppress(Exception):
                        helper.terminate()
            clean = await self._ends(process, one.service.stop_seconds)
        left = [helper for helper in helpers if runs(helper)]
        if left:
            patience = 0.0 if self._hurry.is_set() or not clean else 1.0
            await aside(stop_processes, left, signal.SIGTERM, patience)
        if process and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await asyncio.wait({asyncio.create_task(process.wait())}, timeout=_KILLED)
        one.state = "stopped"
        return clean

    async def _ends(self, process: asyncio.subprocess.Process, seconds: float) -> bool:
        ended, hurried = asyncio.create_task(process.wait()), asyncio.create_task(self._hurry.wait())
        await asyncio.wait({ended, hurried}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if process.returncode is None:
            ended.cancel()
        return process.returncode is not None


def _is_ready(service: Service, pid: int) -> bool:
    return service.ready() and (service.port is None or listens(pid, service.port))
