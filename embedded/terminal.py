"""What `zhiyun up` says on the terminal."""

from __future__ import annotations

import contextlib
import json
from datetime import datetime
from pathlib import Path

from embedded.definitions import Addresses
from embedded.layout import Layout

EXAMPLE_QUESTION = "发票怎么开？"


class Announcer:
    """Says one line, with the time, on the terminal and in `supervisor.log`; neither can stop the stack."""

    def __init__(self, log: Path) -> None:
        self._log = log

    def __call__(self, line: str) -> None:
        stamped = f"{datetime.now():%H:%M:%S} {line}"
        with contextlib.suppress(OSError, ValueError):
            print(stamped, flush=True)
        with contextlib.suppress(OSError), self._log.open("a") as stream:
            stream.write(f"{datetime.now():%Y-%m-%d} {stamped}\n")

    def plain(self, text: str) -> None:
        """Lines without the time, such as a table."""
        with contextlib.suppress(OSError, ValueError):
            print(text, flush=True)


def table(addresses: Addresses, place: Layout) -> str:
    """Where everything is, and how to ask a first question."""
    chat = addresses.chat
    rows = {
        "Chat": f"{chat}/",
        "API": f"{chat}/api/",
        "API docs": f"{chat}/schema",
        "Dagster": addresses.dagster,
        "Qdrant": addresses.qdrant,
        "Data": str(place.home),
        "Logs": str(place.logs),
    }
    question = json.dumps({"message": EXAMPLE_QUESTION}, ensure_ascii=False)
    return "\n".join(
        [
            "",
            *(f"  {name:<9} {where}" for name, where in rows.items()),
            "",
            "  Ask a question:",
            f"  curl -s {chat}/api/chat -H 'Content-Type: application/json' -d '{question}'",
            "",
            "  Stop: Ctrl-C here, or `zhiyun down`.",
            "",
        ]
    )
