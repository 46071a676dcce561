"""Reading a dump back without a server: is it whole, and what does it list?"""

from __future__ import annotations

from collections.abc import Iterable

from orchestration.backups.database.programs import ProgramFailed, running
from orchestration.backups.recovery_point import BackupError, PointDamaged
from zhiyun.postgresql import Programs, clean_environment


def check(chunks: Iterable[bytes], programs: Programs) -> None:
    """Have pg_restore read a whole archive (custom format, raw), as for a restore, and throw the SQL away.

    `pg_restore --list` reads no further than the table of contents, and is content with an archive that was cut off.
    Raises PointDamaged with pg_restore's words, or what `chunks` raises.
    """
    with running([programs.path("pg_restore"), "--file=/dev/null"], clean_environment(), reads=True) as program:
        try:
            program.feed(chunks)
        except ProgramFailed as error:
            if error.killed:
                raise BackupError(f"The dump could not be read back: {error}. Nothing was changed.") from None
            raise PointDamaged(f"The dump is damaged: {error.words}. Nothing was changed.") from None
