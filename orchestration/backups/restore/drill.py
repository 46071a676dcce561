"""A trial restore: the newest verified point, whole, beside everything, compared, asked, timed, and removed again."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from knowledge.database import DatabaseUnavailable
from knowledge.models.registry import ModelMissing
from knowledge.releases.vector_store import VectorStoreUnavailable
from objects.store import ObjectStoreError
from orchestration import operations_record
from orchestration.backups.database import restore as database_restore
from orchestration.backups.database.server import database_errors
from orchestration.backups.files import restore as files_restore
from orchestration.backups.installation import Installation
from orchestration.backups.making import golden
from orchestration.backups.making.golden import Compared
from orchestration.backups.making.verify import check
from orchestration.backups.points import catalogue
from orchestration.backups.points.record import written_down
from orchestration.backups.recovery_point import BackupError, Manifest
from orchestration.backups.restore import leftovers
from orchestration.backups.scratch import scratch_name
from orchestration.backups.timing import Timing
from orchestration.backups.undo import Undo
from orchestration.backups.vectors import restore as vectors_restore
from orchestration.exclusion import exclusive
from zhiyun.settings import StackSettings, load

WAIT = 1800.0
_FOUND = (BackupError, ObjectStoreError, VectorStoreUnavailable, ModelMissing, DatabaseUnavailable)


@dataclass
class Drill:
    """What a trial restore has shown. `problems` are sentences; without any the point restores whole."""

    point: str
    began: datetime
    rpo_seconds: float  # age of the point: what would be lost now
    timing: Timing
    rto_seconds: float = 0.0  # from the first byte read to the last answer compared
    problems: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])
    rows: int = 0
    points: int = 0
    files: int = 0
    golden: Compared | None = None

    def lines(self) -> list[str]:
        """For a terminal."""
        said = [f"recovery point {self.point}, {self.rpo_seconds / 3600:.1f} h old, restored for trial"]
        said += [f"  {line}" for line in self.timing.lines()]
        said.append(f"  {self.rows} rows, {self.points} points, {self.files} files")
        if self.golden:
            said.append(f"  {self.golden.same_first} of {self.golden.questions} golden questions answered as before")
        said += [f"  {note}" for note in self.notes]
        return [*said, *(self.problems or ["it restores whole"])]


def drill(inst: Installation) -> Drill:
    """Restore the newest verified point of the primary store for trial. Raises BackupError if there is none.

    Everything is made under a name of its own and removed whatever happens; what an earlier one that was killed has left
    is removed too. What differs is in `problems`.
    """
    with exclusive(inst.database.admin, "restore drill", wait=WAIT, say=inst.progress.say):
        leftovers.sweep(inst)
        began = datetime.now(UTC)
        found = catalogue.find(inst.primary, "latest")
        assert found.manifest is not None  # catalogue.find
        age = (began - found.made_at).total_seconds()
        done = Drill(found.id, began, age, Timing(inst.progress))
        name = scratch_name(began, inst.qdrant.collection)
        undo = Undo(inst.progress.say)
        try:
            with database_errors():
                _restore(inst, found.manifest, name, done, undo)
        except _FOUND as error:
            done.problems.append(str(error))
        finally:
            done.rto_seconds = done.timing.total
            undo.now()
            leftovers.sweep(inst)
        return done


def _restore(inst: Installation, manifest: Manifest, name: str, done: Drill, undo: Undo) -> None:
    store, timing = inst.primary, done.timing
    database = manifest.database("platform")
    with timing.step("check"):
        check(inst, store, manifest)
    scratch = database_restore.beside(inst, "drill", done.began)
    done.notes += database_restore.make(inst, store, database, scratch, timing, undo)
    done.rows = sum(table.rows for table in database.tables)
    restored = None
    with timing.step("vectors"):
        try:
            restored = vectors_restore.restore(
                inst.qdrant, manifest.vectors, store, keys=inst.keys, into=name,
                say=inst.progress.say, progress=inst.progress.add,
            )  # fmt: skip
        except BackupError as error:
            done.problems.append(str(error))
    if restored:
        undo.later(vectors_restore.discard, inst.qdrant, list(restored.names.values()))
        done.points = sum(restored.points.values())
        with timing.step("golden questions"), inst.connect(scratch, "restore drill") as catalog:
            models = load(StackSettings).home / name / "models"  # from the restored database, not from this machine
            done.golden = golden.replay(inst, catalog, manifest, store, restored.names, models)
    with timing.step("files"):
        folder = load(StackSettings).home / name
        targets: dict[str, Path] = {source.name: folder / source.name for source in manifest.files.sources}
        brought = files_restore.restore(store, manifest.files, targets, False, inst.progress.add, keys=inst.keys)
        done.files = brought.written
        done.problems += brought.problems
    if done.files != manifest.files.files:
        done.problems.append(f"{done.files} files were restored, and the point has {manifest.files.files}.")
    if done.golden and done.golden.problem:
        done.problems.append(f"{done.golden.problem}.")


def record_drill(inst: Installation, done: Drill) -> None:
    """Keep what a trial restore has shown."""
    with written_down(inst), inst.catalog("record of a restore drill") as connection:
        operations_record.record_drill(
            connection,
            done.point,
            done.rto_seconds,
            rpo_seconds=done.rpo_seconds,
            passed=not done.problems,
            details={"seconds": done.timing.seconds, "problems": done.problems},
            at=done.began,
        )
