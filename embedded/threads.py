"""The supervisor's threads: all are started before any service is, while there is memory.

A thread that the system cannot give leaves Python waiting for it to start, for ever; and the end of a process that a
thread was to wait for goes unnoticed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

_T = TypeVar("_T")
_COUNT = 6
_pool = ThreadPoolExecutor(_COUNT, "aside")


def start_threads() -> None:
    """Raises RuntimeError or MemoryError if the system does not give them."""
    begun = threading.Barrier(_COUNT)
    try:
        for future in [_pool.submit(begun.wait) for _ in range(_COUNT)]:
            future.result()
    except BaseException:
        begun.abort()  # those that did start are not to hold up the end
        raise
    if sys.version_info < (3, 12):  # which watches processes by file descriptors by itself
        with contextlib.suppress(OSError, AttributeError):  # an old kernel, or another system: a thread for each
            os.close(os.pidfd_open(os.getpid()))
            asyncio.set_child_watcher(asyncio.PidfdChildWatcher())


async def aside(function: Callable[..., _T], *arguments: Any) -> _T:
    """Call what would block in one of the threads."""
    return await asyncio.get_running_loop().run_in_executor(_pool, function, *arguments)
