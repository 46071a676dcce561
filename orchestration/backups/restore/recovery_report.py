"""What a recovery did, and what its people have to do before customers come."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from orchestration.backups.making.golden import Compared
from orchestration.backups.timing import Timing

CHECKLIST = """\
Before customers come here:
  1. Fence the old environment: stop its services, or take its address away, so that nobody writes there any more.
  2. Start the services here (`make run`, which is `zhiyun up`) and look at GET /api/health: it must say "healthy".
  3. Ask two questions whose answers you know, and read an old conversation.
  4. Set passwords of roles that were created anew, if any is named above: recovery points hold none.
Then move customers:
  5. Lower the time to live of the DNS record in time, point it here, and watch access.log until requests come.
  6. Make a recovery point here (`zhiyun backup now`): the old stores have none of this environment yet.
  7. Keep the old environment fenced until the first night's point is verified."""


@dataclass
class Report:
    """What a recovery did, and how long each step took."""

    point: str
    made_at: datetime
    store: str
    timing: Timing
    notes: list[str] = field(default_factory=list[str])
    problems: list[str] = field(default_factory=list[str])
    rows: int = 0
    points: int = 0
    files: int = 0
    golden: Compared | None = None
    after: str = ""  # why the command that comes after did not succeed
    written: str = ""

    def lines(self) -> list[str]:
        """For a terminal."""
        said = [f"recovery point {self.point}, made {self.made_at:%Y-%m-%d %H:%M} UTC, from {self.store}"]
        said += [f"  {line}" for line in self.timing.lines()]
        said.append(f"  {self.rows} rows, {self.points} points, {self.files} files are here")
        if self.golden:
            said.append(
                f"  {self.golden.same_first} of {self.golden.questions} golden questions are answered as before"
            )
        said += [f"  {note}" for note in self.notes]
        if self.written:
            said.append(f"  this report: {self.written}")
        if self.problems:
            return [*said, "NOT VERIFIED; do not move customers here:", *self.problems]
        return [*said, "Everything is restored and verified.", *([self.after] if self.after else []), "", CHECKLIST]

    def as_dict(self) -> dict[str, object]:
        """For the file."""
        return {
            "point": self.point, "made_at": self.made_at.isoformat(), "store": self.store,
            "seconds": self.timing.seconds, "seconds_in_all": self.timing.total, "rows": self.rows,
            "points": self.points, "files": self.files, "notes": self.notes, "problems": self.problems,
            "after": self.after,
            "golden": msgspec.to_builtins(self.golden) if self.golden else None,
        }  # fmt: skip
