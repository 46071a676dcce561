"""The programs of another major version of PostgreSQL make and restore nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestration.backups.making import steps
from orchestration.backups.recovery_point import BackupError
from tests.support.backups.backed_up import Platform
from tests.support.backups.small_points import NEXT, installed, listed, one_sentence, refused, untouched
from zhiyun.postgresql import OLDEST, servers

pytestmark = pytest.mark.slow


def test_programs_of_another_major_version_are_refused_in_a_line(platform: Platform, store: Path) -> None:
    own = platform.cluster.binaries
    other = next(
        (found for packaged in (False, True) for found in servers(packaged_only=packaged) if found.major != own.major),
        None,
    )
    if other is None:
        pytest.skip(f"this machine has no other PostgreSQL {OLDEST} or later than {own.major}")
    inst = installed(platform, store, DATABASE_PROGRAMS=str(other.folder))
    names = f"DATABASE_PROGRAMS={other.folder}", f"PostgreSQL {own.major}", str(other.major)
    with platform.settings(), untouched(platform):
        with pytest.raises(BackupError) as caught:
            steps.make(inst, NEXT, "hand")
        one_sentence(str(caught.value), *names)
        assert listed(inst, NEXT).reason == str(caught.value)
    refused(platform, inst, *names)
    assert listed(inst).state == "verified"  # it could not be told
