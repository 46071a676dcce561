"""What the engine does in a process of its own: optimise a copy of a shard, or try whether one can be loaded.

`python -m embedded.qdrant.shards.worker optimize|check FOLDER` with the collection's configuration as JSON on stdin; the
outcome is one line of JSON on stdout. In here the engine may hold the interpreter for minutes, use all memory or
crash: the server goes on.
"""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Literal

import msgspec
import qdrant_edge as edge

from embedded.qdrant.engine import EnginePanic, guarded
from embedded.qdrant.errors import ApiError, disk_full
from embedded.qdrant.settings.config import CollectionConfig

Task = Literal["optimize", "check"]


class Outcome(msgspec.Struct, frozen=True):
    """What became of a task."""

    changed: bool = False
    points: int = 0
    error: str | None = None


def rehearse(folder: Path, config: CollectionConfig) -> None:
    """Load a shard in a child process, which writes what of its log is not in its files yet.

    Raises ApiError (507) if that kills the child, as a write into a full disk does. Whatever else is wrong with the
    shard is for who loads it to say.
    """
    told = msgspec.json.encode(config)
    child = subprocess.run(_command("check", folder), input=told, capture_output=True, check=False)
    if child.returncode < 0:
        name = signal.Signals(-child.returncode).name
        raise disk_full(f"loading it ended a process with {name}: there is too little room on the disk")


async def run(task: Task, folder: Path, config: CollectionConfig) -> Outcome:
    """Do the task in a child process. It is killed when the caller is cancelled."""
    process = await asyncio.create_subprocess_exec(
        *_command(task, folder),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        told, complaint = await process.communicate(msgspec.json.encode(config))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        return msgspec.json.decode(told, type=Outcome)
    except msgspec.MsgspecError:
        last = complaint.decode(errors="replace").strip().rpartition("\n")[2]
        return Outcome(error=f"its process ended with code {process.returncode}: {last or 'no message'}")


def _command(task: Task, folder: Path) -> list[str]:
    return [sys.executable, "-m", "embedded.qdrant.shards.worker", task, str(folder)]


def main(arguments: list[str]) -> None:
    """The child's side."""
    _end_with_the_parent()
    task, folder = arguments
    config = msgspec.json.decode(sys.stdin.buffer.read(), type=CollectionConfig)
    try:
        outcome = _optimize(folder, config) if task == "optimize" else _check(folder)
    except (ApiError, EnginePanic) as error:
        outcome = Outcome(error=str(error))
    sys.stdout.write(msgspec.json.encode(outcome).decode())


def _optimize(folder: str, config: CollectionConfig) -> Outcome:
    os.nice(15)
    shard = guarded(lambda: edge.EdgeShard.load(folder, config.for_engine()))
    changed = guarded(shard.optimize)
    guarded(shard.flush)
    points = guarded(shard.info).points_count
    guarded(shard.close)
    return Outcome(changed, points)


def _check(folder: str) -> Outcome:
    shard = guarded(lambda: edge.EdgeShard.load(folder))
    found, _ = guarded(lambda: shard.scroll(edge.ScrollRequest(limit=1, with_payload=True, with_vector=True)))
    points = guarded(shard.info).points_count
    if points and not found:
        return Outcome(error=f"it says that it has {points} points and gives none")
    guarded(shard.close)
    return Outcome(points=points)


def _end_with_the_parent() -> None:
    """Ask the kernel to kill this process when the server is gone (Linux; elsewhere it ends by itself)."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
        if os.getppid() == 1:
            sys.exit("the server is gone")


if __name__ == "__main__":
    main(sys.argv[1:])
