"""The house stays a house: rooms small enough to find a thing in, and Dagster only where the rooms' page says so."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from zhiyun.repository import REPOSITORY

ROOMS = ("zhiyun", "objects", "knowledge", "orchestration", "serving", "embedded", "console", "migrations")
MODULES = 15  # in one folder: what a reader takes in at a glance; beyond it, wings
REASONED = {"zhiyun/settings": 18}  # folders whose docstring says why they have more
LINES = 400


@pytest.fixture(scope="module")
def files() -> list[Path]:
    """Every Python file of the repository, tracked or about to be."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    return [REPOSITORY / name for name in listed if (REPOSITORY / name).exists()]


def imports_dagster(file: Path) -> bool:
    for node in ast.walk(ast.parse(file.read_text())):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if any(name.split(".")[0] == "dagster" for name in names):
            return True
    return False


def test_the_page_the_rule_and_the_code_name_the_same_modules_that_import_dagster(files: list[Path]) -> None:
    places = [file.relative_to(REPOSITORY) for file in files]
    code = {
        ".".join(place.with_suffix("").parts)
        for place in places
        if place.parts[0] in ROOMS and imports_dagster(REPOSITORY / place)
    }
    page = re.search(r"Modules that import Dagster: (.+)", (REPOSITORY / "docs" / "architecture.md").read_text())
    assert page
    assert set(re.findall(r"`([\w.]+)`", page[1])) == code
    contracts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [rule] = [contract for contract in contracts if contract.get("forbidden_modules") == ["dagster"]]
    assert {line.removesuffix(" -> dagster") for line in rule["ignore_imports"]} == code


def test_no_folder_has_more_modules_than_one_can_take_in(files: list[Path]) -> None:
    folders = Counter(file.parent for file in files if file.name != "__init__.py")
    counts = {str(folder.relative_to(REPOSITORY)): count for folder, count in folders.items()}
    large = {name: count for name, count in counts.items() if count > REASONED.get(name, MODULES)}
    assert large == {}, "give it wings, each called by the word for what it holds"


def test_no_file_is_longer_than_a_few_screens(files: list[Path]) -> None:
    lengths = {str(file.relative_to(REPOSITORY)): len(file.read_text().splitlines()) for file in files}
    assert {name: count for name, count in lengths.items() if count > LINES} == {}, "split it by what it promises"
