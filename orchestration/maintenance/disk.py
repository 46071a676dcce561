"""What is free on the database's disk, where that can be seen from here."""

from __future__ import annotations

import shutil
from pathlib import Path

import psycopg

from knowledge.database import Connection
from orchestration.maintenance.session import one


def free_bytes(connection: Connection) -> int | None:
    """Bytes free on the volume of the server's data folder. None when the server is elsewhere, or in a container: the
    same path is then another folder, or none."""
    try:
        near = one(connection, "SELECT inet_server_addr() IS NULL OR inet_server_addr() << inet '127.0.0.0/8' "
                               "OR inet_server_addr() = inet '::1'")  # fmt: skip
        folder = Path(str(one(connection, "SHOW data_directory")))
    except psycopg.Error:  # the role may not ask where the data is
        return None
    try:
        # Its lock names this very server: its process, and the port that we speak to.
        lines = (folder / "postmaster.pid").read_text().splitlines()
        if not near or int(lines[3]) != connection.info.port:
            return None
        return shutil.disk_usage(folder).free
    except (OSError, ValueError, IndexError):
        return None
