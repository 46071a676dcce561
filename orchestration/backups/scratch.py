"""Names of what trial restores make, so that backups pass it over and leftovers are found."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime

SCRATCH = "zhiyun_drill"
"""What all such names begin with."""
_NAME = re.compile(r"zhiyun_drill_\d{8}t\d{6}z(_.*)?")


def scratch_name(now: datetime, alias: str) -> str:
    """A name for everything that one trial restore makes: its collections and its folder.

    `alias` is QDRANT_COLLECTION: another installation on the same vector store tells its own by it.
    """
    return f"{SCRATCH}_{now.astimezone(UTC):%Y%m%dt%H%M%Sz}_{_mark(alias)}"


def is_scratch(name: str) -> bool:
    """Whether a collection or folder was made by a trial restore, whoever's."""
    return bool(_NAME.fullmatch(name))


def is_own_scratch(name: str, alias: str) -> bool:
    """Whether it was made by a trial restore of this installation."""
    return is_scratch(name) and bool(re.fullmatch(rf"{SCRATCH}_\d{{8}}t\d{{6}}z_{_mark(alias)}(_.*)?", name))


def _mark(alias: str) -> str:
    return hashlib.sha256(alias.encode()).hexdigest()[:6]
