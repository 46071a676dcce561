"""The database's part of a recovery point in a process of its own, so that its memory can be seen.

`python -m bench.backup_worker dump|check|restore STATE [NAME]` reads the settings from the environment, prints seconds,
and keeps what was dumped in the file STATE.
"""

from __future__ import annotations

import sys
from pathlib import Path
from time import perf_counter

import msgspec

from orchestration.backups.attempt import attempt
from orchestration.backups.database import archive, load
from orchestration.backups.database.capture import dump_database, programs, server_major
from orchestration.backups.installation import installation
from orchestration.backups.recovery_point import Database
from orchestration.backups.streams.blobs import read_blob


def main(what: str, state: Path, name: str = "") -> float:
    """Do one thing; gives its seconds."""
    inst = installation()
    tools = programs(inst, server_major(inst.database.admin))
    inst.primary.stat("nothing")  # loads the S3 client, as Python and all else is loaded before the clock starts
    if what == "dump":
        began = perf_counter()
        database = dump_database(inst, attempt("2026-01-01", "bench", "hand"), "platform", inst.database.admin, tools)
        seconds = perf_counter() - began
        state.write_bytes(msgspec.json.encode(database))
        return seconds
    database = msgspec.json.decode(state.read_bytes(), type=Database)
    chunks = read_blob(inst.primary, database.dump, keys=inst.keys)
    began = perf_counter()
    if what == "check":
        archive.check(chunks, tools)
        return perf_counter() - began
    return load.restore_into(inst.url(name), chunks, tools).seconds


if __name__ == "__main__":
    print(main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:]))
