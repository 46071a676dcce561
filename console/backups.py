"""The commands around recovery points: `zhiyun backup …`, `restore`, `kept`, `drill` and `recover`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestration.backups.installation import Installation

Add = Callable[..., argparse.ArgumentParser]
Run = Callable[[argparse.Namespace], int]


def add_commands(add: Add) -> None:
    """Add the commands to the command line; `add(name, run, about)` makes one."""
    backup = add("backup", _help, "Make, list, show, verify and expire recovery points.")
    _subcommands(
        backup,
        ("now", _now, "Make a recovery point now, copy it to every store and verify it."),
        ("list", _list, "List the recovery points of all stores, newest first."),
        ("show", _show, "Show what is in a recovery point."),
        ("verify", _verify, "Read a recovery point back, whole, from every store that has it."),
        ("prune", _prune, "Delete what has expired, and what broken-off backups have left."),
        ("key", _key, "Print a new key file for BACKUP_KEY_FILE."),
    )
    restore = add("restore", _told(_restore), "Put a recovery point in the place of what is live.")
    restore.add_argument("point", help="its id (see `zhiyun backup list`), or `latest` for the newest verified one")
    restore.add_argument(
        "--only", action="append", choices=["database", "vectors", "files"], help="just this part (may be repeated)"
    )
    restore.add_argument("--into", metavar="NAME", default="", help="beside what is live, under this name")
    restore.add_argument("--store", metavar="NAME", help="from this store of BACKUP_STORES (the first)")
    restore.add_argument("--overwrite-files", action="store_true", help="also files that are newer than their backup")
    restore.add_argument("--yes", action="store_true", help="do not ask")
    kept = add("kept", _help, "What restores have kept of the state before them.")
    _subcommands(
        kept,
        ("list", _kept_list, "List the databases that restores have kept."),
        ("back", _kept_back, "Put a kept database back in the place of the live one, which is kept in turn."),
        ("discard", _kept_discard, "Delete a kept database and the collections that only it knows."),
    )
    add(
        "drill", _told(_drill), "Restore the newest verified recovery point for trial, compare it, and remove it again."
    )
    recover = add("recover", _told(_recover), "Restore everything into an empty environment, and verify it.")
    recover.add_argument("point", nargs="?", default="latest", help="its id; without one the newest verified")
    recover.add_argument("--from", dest="source", metavar="STORE", required=True, help="a folder or s3://bucket/prefix")


def _subcommands(parser: argparse.ArgumentParser, *rows: tuple[str, Run, str]) -> None:
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, run, about in rows:
        command = commands.add_parser(name, help=about, description=about)
        command.set_defaults(run=_told(run), settings=True)
        if name in ("show", "back", "discard"):
            command.add_argument("name", help="as `list` shows it" + (", or `latest`" if name == "show" else ""))
        if name == "verify":
            command.add_argument("name", nargs="?", default="latest", help="its id; without one the newest verified")
        if name in ("show", "verify"):
            command.add_argument("--store", metavar="NAME", help="in this store of BACKUP_STORES")
        if name in ("list", "show"):
            command.add_argument("--json", action="store_true", help="as JSON")
        if name == "prune":
            command.add_argument("--dry-run", action="store_true", help="only say what would be deleted")


def _help(_: argparse.Namespace) -> int:
    raise AssertionError("argparse asks for a subcommand")


def _now(_: argparse.Namespace) -> int:
    from orchestration.backups.making import steps
    from orchestration.backups.points import record
    from orchestration.backups.recovery_point import id_by_hand
    from orchestration.backups.units import size_text

    with _stores(), _installation() as inst:
        made = steps.make(inst, id_by_hand(datetime.now(UTC)), "hand")
        record.bring_up_to_date(inst)
    print(f"recovery point {made.manifest.id}: {size_text(made.manifest.size)}")
    for problem in made.manifest.files.problems:
        print(f"  {problem}")
    for store, problem in made.problems.items():
        print(f"  {store}: {problem or 'verified'}")
    return 0 if made.good else 1


def _list(chosen: argparse.Namespace) -> int:
    from orchestration.backups.points import catalogue
    from orchestration.backups.points.listing import as_text

    with _installation() as inst:
        if len(inst.stores) == 1:  # noqa: SIM108
            points = catalogue.points(inst.primary)  # a store that does not answer is the answer
        else:
            points = catalogue.all_points(inst.stores)
    if chosen.json:
        rows = [
            {
                "id": point.id, "state": point.state, "made_at": point.made_at.isoformat(), "size": point.size,
                "stores": dict(point.stores), "reason": point.reason,
            }
            for point in points
        ]  # fmt: skip
        print(json.dumps(rows, ensure_ascii=False, indent=1))
    else:
        print(as_text(points) if points else f"no recovery points in {', '.join(store.url for store in inst.stores)}")
    return 0


def _show(chosen: argparse.Namespace) -> int:
    from orchestration.backups.points import catalogue, overview
    from orchestration.backups.recovery_point import encode_manifest

    with _installation() as inst:
        point = catalogue.find(inst.store(chosen.store), chosen.name)
    assert point.manifest is not None  # catalogue.find
    print(encode_manifest(point.manifest).decode() if chosen.json else overview.as_text(point, point.manifest))
    return 0


def _verify(chosen: argparse.Namespace) -> int:
    from orchestration.backups.making.verify import verify_everywhere
    from orchestration.backups.points import catalogue

    with _installation() as inst:
        store = inst.store(chosen.store)
        point = catalogue.find(store, chosen.name).id
        problems = verify_everywhere(inst, point, [store] if chosen.store else inst.stores)
    for name, problem in problems.items():
        print(f"{point} in {name}: {problem or 'verified'}")
    return 1 if any(problems.values()) else 0


def _prune(chosen: argparse.Namespace) -> int:
    from orchestration.backups.points import expiry, record
    from orchestration.exclusion import exclusive

    with _stores(), _installation() as inst, exclusive(inst.database.admin, "expiry of recovery points"):
        reports = expiry.prune(inst, dry_run=chosen.dry_run)
        if not chosen.dry_run:
            record.bring_up_to_date(inst)
    for report in reports:
        print(report.as_text())
    return 1 if any(report.problems for report in reports) else 0


def _key(_: argparse.Namespace) -> int:
    from orchestration.backups.streams.encryption import generate

    print(generate(), end="")
    return 0


def _restore(chosen: argparse.Namespace) -> int:
    from orchestration.backups.making.verify import PARTS
    from orchestration.backups.points import record
    from orchestration.backups.restore import in_place

    parts = chosen.only or list(PARTS)
    what = f"{' and '.join(parts)} of recovery point {chosen.point}"
    with _stores(), _installation() as inst:
        if not chosen.into and not _agreed(chosen, f"This puts {what} in the place of what is live now."):
            return 1
        report = in_place.restore(
            inst,
            inst.store(chosen.store),
            chosen.point,
            parts,
            into=chosen.into,
            overwrite_files=chosen.overwrite_files,
        )
        if not chosen.into:
            record.bring_up_to_date(inst)
    print("\n".join(report.lines()))
    return 1 if report.problems else 0


def _kept_list(_: argparse.Namespace) -> int:
    from orchestration.backups.restore import kept
    from orchestration.backups.units import size_text

    with _stores(), _installation() as inst:
        found = kept.databases(inst)
    rows = [f"{one.name}  {one.at:%Y-%m-%d %H:%M} UTC  {size_text(one.size or 0)}" for one in found]
    print("\n".join(rows) or "nothing is kept")
    return 0


def _kept_back(chosen: argparse.Namespace) -> int:
    from orchestration.backups.restore import kept

    with _stores(), _installation() as inst:
        now_kept = kept.back(inst, chosen.name)
    print(f"{chosen.name} is live again; what was live is kept as {now_kept}")
    return 0


def _kept_discard(chosen: argparse.Namespace) -> int:
    from orchestration.backups.restore import kept

    with _stores(), _installation() as inst:
        collections = kept.discard(inst, chosen.name)
    print(f"deleted: {', '.join([chosen.name, *collections])}")
    return 0


def _drill(_: argparse.Namespace) -> int:
    from orchestration.backups.restore.drill import drill, record_drill

    with _stores(), _installation() as inst:
        found = drill(inst)
        record_drill(inst, found)
    print("\n".join(found.lines()))
    return 1 if found.problems else 0


def _recover(chosen: argparse.Namespace) -> int:
    from orchestration.backups.restore import recover

    with _stores(), _installation(chosen.source) as inst:
        report = recover.recover(inst, chosen.point)
    print("\n".join(report.lines()))
    return 1 if report.problems or report.after else 0


def _agreed(chosen: argparse.Namespace, sentence: str) -> bool:
    if chosen.yes:
        return True
    print(sentence)
    if not sys.stdin.isatty():
        print("Nothing was changed: say --yes where nobody can be asked.", file=sys.stderr)
        return False
    if input(f"Type {chosen.point} to go on: ").strip() == chosen.point:
        return True
    print("Nothing was changed.")
    return False


def _told(run: Run) -> Run:
    """The command, with what a person can act on as one sentence on stderr and exit status 1."""

    def told(chosen: argparse.Namespace) -> int:
        try:
            return run(chosen)
        except Exception as error:
            if not isinstance(error, _expected()):
                raise
            print(error, file=sys.stderr)
            return 1

    return told


def _expected() -> tuple[type[Exception], ...]:
    """What a person can act on. Asked for only when something was raised, for it has to know every part of a command."""
    from embedded.attach import NotAttached
    from embedded.layout import HomeUnusable
    from embedded.services.account import AccountError
    from embedded.services.processes import ServiceFailed
    from orchestration.backups.expected import EXPECTED

    return (*EXPECTED, NotAttached, AccountError, HomeUnusable, ServiceFailed)


@contextmanager
def _stores() -> Generator[None]:
    """PostgreSQL and the vector store: those that the settings name, else those of ZHIYUN_HOME."""
    from embedded.attach import exported, last_known, stores
    from embedded.layout import layout
    from zhiyun.settings import DatabaseSettings, load

    named = load(DatabaseSettings)
    if "url" in named.model_fields_set and named.url != last_known(layout()).get("DATABASE_URL"):
        yield
        return
    with stores(layout(), _say) as told, exported(told):
        yield


@contextmanager
def _installation(stores: str | None = None) -> Generator[Installation]:
    from orchestration.backups.installation import installation
    from orchestration.backups.progress import Bar, Logged

    progress: Any = Bar() if sys.stderr.isatty() else Logged(_say)
    try:
        yield installation(progress, stores)
    finally:
        progress.close()


def _say(line: str) -> None:
    print(f"{datetime.now():%H:%M:%S} {line}", file=sys.stderr, flush=True)
