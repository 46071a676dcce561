"""`python -m tests.support.vectors.qdrant_openapi CHECKOUT`: Qdrant's own API tests against the embedded vector store.

CHECKOUT is a checkout of Qdrant's repository; nothing of it is copied. Its `tests/openapi` checks each answer against
`docs/redoc/master/openapi.json`. Exit code 1 when fewer than 700 of the relevant tests pass, or more than 13 fail.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.vectors.vector_store import ServerProcess

LEAST_PASSED = 700
MOST_FAILED = 13
NOT_RELEVANT = {
    "test_shard_key": "one process has no shards to place by a key",
    "test_shard_snapshot": "snapshots of one shard of a cluster",
    "test_strictmode": "limits for tenants who do not trust each other",
    "test_strict_mode_nested": "limits for tenants who do not trust each other",
    "test_deferred_points": "a server's option for points that wait for the optimiser",
    "test_cluster": "there is one process",
}
# Not in the repository: what the suite needs is none of this project's.
_FOLDER = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zhiyun" / "qdrant-suite"
# What the tests import; the project's list has the tools of its cluster tests too.
_PACKAGES = (
    "jsons>=1.6.3,<2",
    "jsonschema",
    "more-itertools>=10.8",
    "numpy",
    "pytest>=8.4,<9",
    "pytest-cases>=3.9.1,<4",
    "pytest-timeout>=2.4,<3",
    "qdrant-client>=1.16.1,<2",
    "requests>=2.32.5,<3",
    "retry>=0.9.2,<0.10",
    "schemathesis>=3.39.16,<4",
)


@dataclass(frozen=True)
class Outcome:
    """What became of the tests, each by its module and name."""

    passed: frozenset[str]
    failed: frozenset[str]
    skipped: frozenset[str]

    def relevant(self) -> Outcome:
        """The same without the modules about what the embedded store does not have."""

        def of(names: frozenset[str]) -> frozenset[str]:
            return frozenset(name for name in names if name.partition("::")[0] not in NOT_RELEVANT)

        return Outcome(of(self.passed), of(self.failed), of(self.skipped))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.vectors.qdrant_openapi", description=(__doc__ or "").partition("\n\n")[2]
    )
    parser.add_argument("checkout", type=Path, help="a checkout of Qdrant's repository")
    parser.add_argument("--url", help="a running server, empty; QDRANT_API_KEY is its key (default: start ours)")
    parser.add_argument("--all", action="store_true", help="run the tests that are not relevant too")
    parser.add_argument("--only", metavar="WORD", help="run the modules that have this in their name, judge nothing")
    chosen = parser.parse_args(arguments)
    checkout: Path = chosen.checkout.resolve()
    modules = sorted(path.stem for path in (checkout / "tests" / "openapi").glob("test_*.py"))
    if not modules or not (checkout / "docs" / "redoc" / "master" / "openapi.json").exists():
        print(f"{checkout} has no tests/openapi, or no docs/redoc/master/openapi.json", file=sys.stderr)
        return 2
    wanted = [m for m in modules if (chosen.all or m not in NOT_RELEVANT) and (chosen.only or "") in m]
    with _server(chosen.url) as url:
        outcome = _run(checkout, wanted, url)
    for name in sorted(outcome.failed):
        print(f"failed: {name}")
    if chosen.all:
        print(f"all: {_figures(outcome)}")
    relevant = outcome.relevant()
    print(f"relevant: {_figures(relevant)}")
    if chosen.only:
        return 1 if outcome.failed else 0
    return 1 if len(relevant.passed) < LEAST_PASSED or len(relevant.failed) > MOST_FAILED else 0


def _figures(outcome: Outcome) -> str:
    passed, failed = len(outcome.passed), len(outcome.failed)
    skipped = f" ({len(outcome.skipped)} skipped)" if outcome.skipped else ""
    return f"{passed} passed / {failed} failed / {passed + failed} total{skipped}"


@contextmanager
def _server(url: str | None) -> Iterator[str]:
    if url:
        yield url
        return
    _FOLDER.mkdir(parents=True, exist_ok=True)
    log = _FOLDER / "server.log"
    log.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as data:
        server = ServerProcess(Path(data), log=log).wait_until_ready()
        try:
            yield server.url
        finally:
            server.stop()


def _run(checkout: Path, modules: list[str], url: str) -> Outcome:
    report = _FOLDER / "junit.xml"
    report.unlink(missing_ok=True)
    key = os.environ.get("QDRANT_API_KEY")
    environment = {
        **os.environ,
        "QDRANT_HOST": url,
        "QDRANT_HOST_HEADERS": json.dumps({"api-key": key} if key else {}),
        # Nothing is written into the checkout.
        "PYTHONDONTWRITEBYTECODE": "1",
        "HYPOTHESIS_STORAGE_DIRECTORY": str(_FOLDER / "hypothesis"),
    }
    options = ["-q", "-p", "no:cacheprovider", "-o", "addopts=", "-W", "ignore", "--tb=short", "--timeout=60"]
    files = [f"openapi/{module}.py" for module in modules]
    command = [str(_python()), "-m", "pytest", *options, f"--junit-xml={report}", *files]
    code = subprocess.run(command, cwd=checkout / "tests", env=environment, check=False).returncode
    if code not in (0, 1) or not report.exists():
        raise SystemExit(f"pytest ended with code {code} before it could judge; what it said is above")
    return _read(report)


def _python() -> Path:
    """The interpreter of the suite's own environment, made when it is first asked for."""
    python = _FOLDER / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    stamp = _FOLDER / "venv" / ".packages"
    if not stamp.exists() or stamp.read_text() != "\n".join(_PACKAGES):
        print(f"== setting up the suite's own environment in {_FOLDER}", flush=True)
        venv.create(_FOLDER / "venv", clear=True, with_pip=True)
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "-qq"]
        subprocess.run([*pip, *_PACKAGES], check=True)
        stamp.write_text("\n".join(_PACKAGES))
    return python


def _read(report: Path) -> Outcome:
    """A test that failed and whose end failed too is in the report twice, and counted once."""
    passed: set[str] = set()
    failed: set[str] = set()
    skipped: set[str] = set()
    for case in ET.parse(report).getroot().iter("testcase"):
        name = f"{(case.get('classname') or '').removeprefix('openapi.')}::{case.get('name')}"
        if case.find("failure") is not None or case.find("error") is not None:
            failed.add(name)
        elif case.find("skipped") is not None:
            skipped.add(name)
        else:
            passed.add(name)
    return Outcome(frozenset(passed - failed), frozenset(failed), frozenset(skipped - failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
