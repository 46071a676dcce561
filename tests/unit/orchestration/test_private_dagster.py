"""What the platform and its tests take from dagster's private modules is where it was: an upgrade may move it without a word."""

import ast
import importlib
import importlib.metadata
import importlib.util
import re
from collections.abc import Iterator

from zhiyun.repository import REPOSITORY

_ROOMS = ("zhiyun", "objects", "knowledge", "orchestration", "serving", "embedded", "console", "migrations")
_PRIVATE = re.compile(r"dagster\._\w[\w.]*")


def test_private_doors_of_dagster_are_where_they_were() -> None:
    version = importlib.metadata.version("dagster")
    doors = list(_doors((*_ROOMS, "tests")))
    assert doors
    moved = [
        f"{place} takes {wanted}, which dagster {version} no longer has: mend it there, with a public name if there is one by now."
        for place, wanted, there in doors
        if not there
    ]
    assert not moved, "\n".join(moved)


def test_only_the_alarms_import_private_names_of_dagster() -> None:
    assert {place.split(":")[0] for place, wanted, _ in _doors(_ROOMS) if not wanted.startswith("python -m")} == {
        "orchestration/alarms/sensors.py"
    }


def _doors(rooms: tuple[str, ...]) -> Iterator[tuple[str, str, bool]]:
    """Every use in the rooms' code: file and line, what is taken, and whether it is there."""
    for file in sorted(file for room in rooms for file in (REPOSITORY / room).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            for wanted, there in _taken(node):
                yield f"{file.relative_to(REPOSITORY)}:{getattr(node, 'lineno', 0)}", wanted, there


def _taken(node: ast.AST) -> Iterator[tuple[str, bool]]:
    match node:
        case ast.ImportFrom(module=str(module), names=names) if f"{module}.".startswith("dagster."):
            for name in names:
                if _PRIVATE.match(whole := f"{module}.{name.name}"):
                    yield whole, _has(module, name.name)
        case ast.Import(names=names):
            for name in names:
                if _PRIVATE.match(name.name):
                    yield name.name, _found(name.name)
        case ast.Constant(value=str(text)) if _PRIVATE.fullmatch(text):  # a module that is run as a program
            yield f"python -m {text}", _found(f"{text}.__main__")
        case _:
            pass


def _has(module: str, name: str) -> bool:
    if not _found(module):
        return False
    return hasattr(importlib.import_module(module), name) or _found(f"{module}.{name}")


def _found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a package above it
        return False
