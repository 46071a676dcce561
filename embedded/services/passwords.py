"""Passwords of the embedded stack: made once, kept in ZHIYUN_HOME where only its owner reads them.

The services listen on the loopback, which every user of a shared machine reaches.
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path


def passwords(home: Path, *names: str) -> dict[str, str]:
    """The password for each name; one that is missing is made and kept in `passwords.json` (mode 0600)."""
    file = home / "passwords.json"
    try:
        known: dict[str, str] = json.loads(file.read_text())
    except FileNotFoundError:
        known = {}
    missing = [name for name in names if name not in known]
    if missing:
        known |= {name: secrets.token_urlsafe(24) for name in missing}
        scratch = file.with_suffix(".new")
        scratch.unlink(missing_ok=True)
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            json.dump(known, stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        scratch.replace(file)
    return {name: known[name] for name in names}
