"""What pip's output says about how far an installation is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

# pip before 23.1 wrote no size of what it took from its cache, later ones do; `.metadata` is a wheel's description alone.
_FETCHED = re.compile(r"\s*(?:Downloading|Using cached) (\S+?)(\.metadata)? \(([\d.]+) (bytes|kB|MB|GB)\)")
_LOCAL = re.compile(r"\s*Processing (\S.*?\.(?:whl|zip|tar\.gz))(?: \(from .*)?$")
_THERE = re.compile(r"Requirement already satisfied: ")
_IGNORED = re.compile(r"Ignoring \S+: markers .* don't match your environment")
_INSTALLING = re.compile(r"Installing collected packages: (.+)")
# "... connection broken by 'NewConnectionError('<object>: Failed to establish ...: Connection refused')': /simple/x/"
_BROKEN = re.compile(r">[:,] '?(.+?)'?\)': ")
_UNITS = {"bytes": 1, "kB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000}


@dataclass
class Progress:
    """How far one run of pip is, which was asked for `packages` packages (0: not known)."""

    packages: int
    there: int = 0  # were installed already
    fetched: int = 0
    fetched_bytes: int = 0  # of the packages fetched, the one that is being fetched included
    file: str = ""  # what pip named last as being fetched
    file_bytes: int = 0
    installing: int = 0  # packages that pip unpacks into the environment; 0 until it does

    def read(self, line: str) -> None:
        """Takes one line of pip's output in."""
        if match := _FETCHED.match(line):
            if not match[2]:
                size = round(float(match[3]) * _UNITS[match[4]])
                self._fetched(unquote(match[1].rpartition("/")[2]), size)
        elif match := _LOCAL.match(line):
            self._fetched("", _size(Path(match[1])))
        elif _THERE.match(line):
            self.there += 1
        elif _IGNORED.match(line):
            self.packages = max(self.packages - 1, 0)
        elif match := _INSTALLING.match(line):
            self.installing = match[1].count(",") + 1
            self.file, self.file_bytes = "", 0

    def _fetched(self, file: str, size: int) -> None:
        self.fetched += 1
        self.fetched_bytes += size
        self.file, self.file_bytes = file, size


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def error(log: str) -> str:
    """pip's own last word on why it failed, and what kept it from its index if that was the reason before."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    last = (errors or lines or ["it said nothing"])[-1]
    unreachable = [line for line in lines if line.startswith("WARNING: Retrying (")]
    if unreachable:
        reason = _BROKEN.search(unreachable[-1])
        last += f"; its index could not be reached: {reason[1] if reason else unreachable[-1]}"
    return last.rstrip(".")
