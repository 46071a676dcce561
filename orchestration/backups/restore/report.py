"""What a restore did, for whoever asked for it."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestration.backups.files import restore as files_restore
from orchestration.backups.timing import Timing


@dataclass
class Report:
    """What a restore did. `kept` is the database that was live before, `replaced` the collections.

    `problems` are sentences on what is not as it should be: files that are not back.
    """

    point: str
    timing: Timing
    database: str = ""
    kept: str = ""
    collections: dict[str, str] = field(default_factory=dict[str, str])
    replaced: tuple[str, ...] = ()
    files: files_restore.Restored | None = None
    notes: list[str] = field(default_factory=list[str])
    problems: list[str] = field(default_factory=list[str])

    def lines(self) -> list[str]:
        """For a terminal."""
        said = [f"recovery point {self.point} is restored", *(f"  {line}" for line in self.timing.lines())]
        if self.database:
            said.append(f"  database {self.database}")
        said += [f"  collection {old}" + (f" as {new}" if new != old else "") for old, new in self.collections.items()]
        if self.files:
            done = self.files
            said.append(
                f"  files: {done.written} written, {done.unchanged} as they were, {done.kept_newer} newer ones left alone"
            )
        said += [f"  {note}" for note in self.notes]
        if self.kept:
            said += [
                f"What was live before is kept as {self.kept}.",
                f"  `zhiyun kept back {self.kept}` puts it back; `zhiyun kept discard {self.kept}` deletes it.",
            ]
        elif self.replaced:
            said.append(
                f"Until the next ingestion the collections are there that were live: {', '.join(self.replaced)}."
            )
        return said + self.problems
