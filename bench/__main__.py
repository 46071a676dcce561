"""`python -m bench [NAME ...]`: run benchmarks (all without a name), show them, and keep them in bench/results.json.

A benchmark is a module bench/<name>.py with `run() -> Iterable[Row]`. Exit code 1 when a bar is missed.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from time import perf_counter

from bench.results import Row, keep, table

_FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The benchmarks that there are."""
    return sorted(
        path.stem.replace("_", "-") for path in _FOLDER.glob("*.py") if "\ndef run(" in path.read_text(encoding="utf-8")
    )


def main(arguments: list[str]) -> int:
    known = names()
    for name in arguments:
        if name not in known:
            print(f"bench: there is no {name!r}; there are {', '.join(known)}", file=sys.stderr)
            return 2
    missed = 0
    for name in arguments or known:
        run: Callable[[], Iterable[Row]] = importlib.import_module(f"bench.{name.replace('-', '_')}").run
        print(f"\n{name}", flush=True)
        started = perf_counter()
        rows: list[Row] = []
        for row in run():
            rows.append(row)
            print(f"  {row.name} {row.value:.4g} {row.unit}", flush=True)
        if rows:
            keep(name, rows)
            print(table(rows))
        print(f"({perf_counter() - started:.0f} s)", flush=True)
        missed += sum(row.missed for row in rows)
    if missed:
        print(f"\n{missed} bars missed", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
