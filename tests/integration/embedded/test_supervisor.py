"""The supervisor: order, restarts that are said aloud, start-ups that fail clearly, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from embedded.services.processes import Identity, Service, ServiceFailed, runs, session_members
from embedded.supervisor import Supervisor


def program(name: str, code: str = "import time; time.sleep(600)", **options: object) -> Service:
    """A service made of one line of Python; `options` are those of `Service`."""
    return Service(name=name, command=[sys.executable, "-u", "-c", code], **options)  # type: ignore[arg-type]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_what_needs_another_starts_after_it_and_one_shots_end_first(tmp_path: Path) -> None:
    order = tmp_path / "order"
    note = f"open({str(order)!r}, 'a').write({{!r}} + ' ')"
    said: list[str] = []
    supervisor = Supervisor(
        [
            program("last", note.format("last") + "; import time; time.sleep(600)", after=("once",)),
            program("once", "import time; time.sleep(0.3); " + note.format("once"), after=("first",), once=True),
            program("first", note.format("first") + "; import time; time.sleep(600)", ready=order.exists),
        ],
        tmp_path,
        said.append,
    )
    await supervisor.start()
    await until(lambda: "last" in order.read_text())
    assert order.read_text().split() == ["first", "once", "last"]
    assert [line.split(" (")[0] for line in said] == ["first is ready", "once is done", "last is ready"]
    assert await supervisor.stop() == []


async def test_a_service_that_dies_is_started_again_and_that_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    supervisor = Supervisor(
        [program("chat", "print('the last word'); import time; time.sleep(600)")], tmp_path, said.append
    )
    await supervisor.start()
    chat = supervisor.watched["chat"]
    await until(lambda: "the last word" in chat.log.read_text())
    first = chat.process
    assert first is not None
    first.kill()
    await until(lambda: chat.restarts == 1 and chat.state == "ready")
    assert chat.process is not None
    assert chat.process.pid != first.pid
    assert any("chat died by SIGKILL: the last word" in line and "started again in 1 s" in line for line in said)
    assert any("chat is ready again" in line for line in said)
    await supervisor.stop()


async def test_a_start_that_fails_is_one_line_with_the_log_and_the_setting(tmp_path: Path) -> None:
    broken = program(
        "chat", "import sys; sys.exit('SERVING_HOST: no such address')", ready=lambda: False, hint="SERVING_HOST"
    )
    other = program("other")
    supervisor = Supervisor([other, broken], tmp_path, lambda _: None)
    with pytest.raises(ServiceFailed) as raised:
        await supervisor.start()
    assert str(raised.value) == (
        "chat ended with status 1 (setting: SERVING_HOST): SERVING_HOST: no such address "
        f"(log: {tmp_path / 'chat.log'})"
    )
    await supervisor.stop()
    left = supervisor.watched["other"].identity
    assert left is not None
    assert left.process() is None


async def test_another_program_on_the_port_does_not_pass_for_the_service(tmp_path: Path) -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        service = program("chat", port=stranger.getsockname()[1], ready=lambda: True, ready_seconds=1.0)
        supervisor = Supervisor([service], tmp_path, lambda _: None)
        with pytest.raises(ServiceFailed, match="chat did not answer"):
            await supervisor.start()
        await supervisor.stop()


async def test_a_service_that_ignores_the_request_to_stop_is_killed_with_its_children(tmp_path: Path) -> None:
    stubborn = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); print('up'); time.sleep(600)"
    )
    supervisor = Supervisor([program("chat", stubborn, stop_seconds=0.5)], tmp_path, lambda _: None)
    await supervisor.start()
    chat = supervisor.watched["chat"]
    await until(lambda: "up" in chat.log.read_text())
    assert len(session_members(chat.leaders)) == 2
    assert await supervisor.stop() == ["chat"]
    assert session_members(chat.leaders) == []


async def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up'); time.sleep(600)"
    supervisor = Supervisor([program("chat", stubborn, stop_seconds=300)], tmp_path, lambda _: None)
    await supervisor.start()
    await until(lambda: "up" in supervisor.watched["chat"].log.read_text())
    stopping = asyncio.create_task(supervisor.stop())
    await asyncio.sleep(0.2)  # the first signal is sent by now; were it not, the second would be alone, and enough
    supervisor.hurry()
    async with asyncio.timeout(30):
        assert await stopping == ["chat"]


@pytest.mark.parametrize("ignored", [(), (signal.SIGINT, signal.SIGTERM)])
def test_children_end_with_a_supervisor_that_is_killed(tmp_path: Path, ignored: tuple[signal.Signals, ...]) -> None:
    code = (
        "import asyncio, sys; from pathlib import Path; from embedded.services.processes import Service; "
        "from embedded.supervisor import Supervisor\n"
        "async def main():\n"
        "    service = Service(name='child', command=[sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "    supervisor = Supervisor([service], Path(sys.argv[1]), lambda line: None)\n"
        "    await supervisor.start()\n"
        "    print(supervisor.watched['child'].process.pid, flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())"
    )

    def as_in_the_background() -> None:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)

    command = [sys.executable, "-c", code, str(tmp_path)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=as_in_the_background)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    assert runs(child)
    parent.kill()
    parent.wait()
    for _ in range(300):
        if not runs(child):
            break
        time.sleep(0.05)
    assert not runs(child)
    parent.stdout.close()


def test_a_process_with_a_reused_number_is_nobody_we_know() -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    try:
        real = Identity.of(stranger.pid)
        assert real is not None
        earlier = Identity(stranger.pid, real.started - 3600)
        assert real.process() is not None
        assert earlier.process() is None
        assert session_members([Identity(stranger.pid, real.started + 3600)]) == []
    finally:
        os.kill(stranger.pid, signal.SIGKILL)
        stranger.wait()
