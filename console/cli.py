"""The command line: `zhiyun up`, and what goes with it."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from console.backups import add_commands


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. The exit status: 0 done, 1 failed, 2 a wrong setting or argument, 3 not running."""
    chosen = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = chosen.run
    try:
        if chosen.settings:
            from zhiyun.settings import check_all

            check_all()
        return command(chosen)
    except ValueError as error:
        from zhiyun.settings import SettingsError

        if not isinstance(error, SettingsError):
            raise
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `zhiyun configuration | head`
        with contextlib.suppress(OSError):
            sys.stderr.close()
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zhiyun", description="Zhiyun, a customer-service knowledge base, with all its services on this machine."
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    def add(
        name: str, run: Callable[[argparse.Namespace], int], about: str, *, settings: bool = True
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=about, description=about)
        command.set_defaults(run=run, settings=settings)
        return command

    add("up", _up, "Start everything and stay in the foreground; Ctrl-C stops it.")
    add("down", _down, "Stop the running stack and wait until it has stopped.")
    status = add(
        "status", _status, "Say what runs and whether it is healthy (exit status 0 healthy, 1 not, 3 not running)."
    )
    status.add_argument("--json", action="store_true", help="as one JSON object")
    add("env", _env, 'Say where the stores of the running stack are, for a shell: eval "$(zhiyun env)".')
    add("ingest", _ingest, "Take in the sources now, in the running stack, and wait for it.")
    add_commands(add)
    doctor = add(
        "doctor", _doctor, "Find what is wrong, why, and what mends it (exit status 0 well, 1 warnings, 2 broken).",
        settings=False,
    )  # fmt: skip
    doctor.add_argument("area", nargs="*", help="look at these only, for example `database llm`")
    doctor.add_argument("--json", action="store_true", help="as one JSON object")
    doctor.add_argument("--language", choices=["en", "zh"], help="of the words (that of the terminal)")
    doctor.add_argument("--kinds", action="store_true", help="print everything that it can find, as Markdown")
    add("configuration", _configuration, "Print every setting, as Markdown.", settings=False)
    add("version", _version, "Print the version.", settings=False)
    return parser


def _up(_: argparse.Namespace) -> int:
    from embedded.stack import up
    from knowledge.documents.sources import parse_sources
    from zhiyun.settings import KnowledgeSettings, load

    parse_sources(load(KnowledgeSettings).sources)  # a mistake in it stops the start, as one in any other setting
    return up()


def _down(_: argparse.Namespace) -> int:
    from embedded.layout import layout
    from embedded.status import down

    return down(layout(), _say)


def _status(chosen: argparse.Namespace) -> int:
    from embedded.layout import layout
    from embedded.status import status

    found = status(layout())
    print(json.dumps(found.as_dict(), ensure_ascii=False, indent=2) if chosen.json else found.as_text())
    return found.exit_code


def _env(_: argparse.Namespace) -> int:
    from embedded.attach import shell_environment
    from embedded.layout import layout

    place = layout()
    told = shell_environment(place) if place.is_running() else {}
    if not told:
        print(f"zhiyun is not running with ZHIYUN_HOME={place.home}; start it with `zhiyun up`", file=sys.stderr)
        return 3
    for name, value in told.items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def _ingest(_: argparse.Namespace) -> int:
    from embedded.layout import layout
    from embedded.runs import DagsterUnreachable, ingest, runs_of, told_of

    place = layout()
    if not place.is_running():
        print(f"zhiyun is not running with ZHIYUN_HOME={place.home}; start it with `zhiyun up`", file=sys.stderr)
        return 3
    try:
        outcome = ingest(runs_of(place.state()), _say)
    except DagsterUnreachable as error:
        print(error, file=sys.stderr)
        return 1
    _say(told_of(outcome))
    return 0 if outcome.succeeded else 1


def _doctor(chosen: argparse.Namespace) -> int:
    from console.doctor import report
    from console.doctor.diagnosis import AREAS, UNFINISHED, diagnose
    from console.doctor.kinds import findings_markdown

    language = chosen.language or report.language_of(os.environ)
    unknown = [area for area in chosen.area if area not in AREAS]
    if unknown:
        print(f"doctor knows no area {unknown[0]!r}; it knows {', '.join(AREAS)}", file=sys.stderr)
        return 2
    if chosen.kinds:
        print(findings_markdown(language), end="")
        return 0
    out: Any = sys.stdout
    out.reconfigure(errors="replace")
    site, findings = diagnose(chosen.area)
    if chosen.json:
        print(json.dumps(report.as_dict(site, findings, language), ensure_ascii=False, indent=2))
    else:
        text = report.as_text(findings, language, colour=out.isatty() and report.wants_colour())
        print(report.encodable(text, out.encoding))
    status = report.exit_status(findings)
    if any(one.kind is UNFINISHED for one in findings):  # nobody waits at the end for what did not answer
        out.flush()
        os._exit(status)
    return status


def _configuration(_: argparse.Namespace) -> int:
    from zhiyun.settings import configuration_markdown

    print(configuration_markdown(), end="")
    return 0


def _version(_: argparse.Namespace) -> int:
    from importlib.metadata import PackageNotFoundError, version

    try:
        print(f"zhiyun {version('zhiyun')}")
    except PackageNotFoundError:
        print("zhiyun (not installed; run `make setup`)")
    return 0


def _say(line: str) -> None:
    print(f"{datetime.now():%H:%M:%S} {line}", flush=True)
