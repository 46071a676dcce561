"""The chat service as a program: `python -m serving`."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.supervisors import Multiprocess

from serving import configuration as settings
from zhiyun import logs
from zhiyun.settings import ServingSettings, SettingsError

if TYPE_CHECKING:
    from litestar import Litestar

SERVICE = "serving"
_MULTIPROC_DIR = "PROMETHEUS_MULTIPROC_DIR"
_GRACE_SECONDS = 4  # the embedded stack stops everything within 10 seconds


def worker() -> Litestar:
    """The application of one worker process, with its logs."""
    configuration = settings.read()
    logs.configure(SERVICE, configuration.log)
    from serving.app import create_app

    return create_app(configuration)


def main() -> int:
    """Serve until SIGTERM or SIGINT. Gives the exit status: 0, or 2 with one line on standard error."""
    try:
        configuration = settings.read()
        listening = _listen(configuration.serving)
        logs.configure(SERVICE, configuration.log)
    except SettingsError as error:
        print(f"serving: {error}", file=sys.stderr)
        return 2
    serving = configuration.serving
    own_metrics = _metrics_folder(serving.workers)
    config = uvicorn.Config(
        "serving.__main__:worker",
        factory=True,
        workers=serving.workers,
        loop="auto",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=True,
        forwarded_allow_ips=serving.forwarded_allow_ips,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    try:
        if serving.workers > 1:
            Multiprocess(config, sockets=[listening]).run()
            return 0
        # uvicorn raises the signal again when it has stopped; that it was told to stop is no failure.
        signal.signal(signal.SIGTERM, lambda *_: None)
        server = uvicorn.Server(config)
        server.run(sockets=[listening])
        return 0 if server.started else 1
    except KeyboardInterrupt:
        return 0
    finally:
        listening.close()
        if own_metrics:
            shutil.rmtree(own_metrics, ignore_errors=True)


def _listen(serving: ServingSettings) -> socket.socket:
    """The bound socket. Raises SettingsError that names SERVING_HOST or SERVING_PORT."""
    family = socket.AF_INET6 if ":" in serving.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((serving.host, serving.port))
        # Two that start at once can both bind with SO_REUSEADDR; only one can listen, so that is tried here too.
        listening.listen(2048)
    except OSError as error:
        listening.close()
        raise SettingsError(
            f"SERVING_HOST={serving.host} SERVING_PORT={serving.port}: cannot listen there "
            f"({error.strerror or error}); stop what uses the port or set another. Nothing was started."
        ) from None
    listening.set_inheritable(True)
    return listening


def _metrics_folder(workers: int) -> str | None:
    """Where several workers keep their metrics. Gives the folder if it was made here: delete it at the end.

    What an earlier run left in a given folder is deleted: its process numbers may come again, in a
    container always. prometheus_client looks at the variable when it is first imported, so this comes
    before that.
    """
    if given := os.environ.get(_MULTIPROC_DIR):
        Path(given).mkdir(parents=True, exist_ok=True)
        for file in Path(given).glob("*.db"):
            file.unlink(missing_ok=True)
        return None
    if workers == 1:
        return None
    os.environ[_MULTIPROC_DIR] = tempfile.mkdtemp(prefix="zhiyun-metrics-")
    return os.environ[_MULTIPROC_DIR]


if __name__ == "__main__":
    sys.exit(main())
