"""Paths and modules of this repository that a text names: found in prose, in code spans, in commands and in comments."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from zhiyun.repository import REPOSITORY

ROOMS = ("zhiyun", "objects", "knowledge", "orchestration", "serving", "embedded", "console", "migrations")
FOLDERS = (*ROOMS, "tests", "bench", "docs", "deploy", "sample")

ELSEWHERE = re.compile(
    r"""
      /.* | ~.* | [a-z0-9]+://.* | \.\./shared.*                    # of the machine, of the web, beside the checkout
    | \.(venv|zhiyun|ci|env)(/.*)?                                  # hidden: what a setup and a start make
    | (points|files|qdrant/snapshots|segments|wal)/.*               # in a store, in ZHIYUN_HOME, in a shard
    | .*[<>{}$=\s].*                                                # a pattern or a command; its words are looked at alone
    | [A-Z]\w*/.* | \.\.\./.*                                       # below a variable's folder, a time zone, a route cut short
    | text/\w+ | qdrant/bm25 | points/(query|search|recommend|discover) | BAAI/.*   # media types, models, routes
    | tests/openapi | docs/redoc/.* | dagster/\w+                   # in Qdrant's repository; tags of Dagster's runs
    | bench/results\.json | build/.*                                # made by `make bench`, by setting up
    """,
    re.VERBOSE,
)
"""What stands in backticks with a slash and is no path of this repository."""

_ROOTED = re.compile(r"(?<![\w./~<>:-])(?:" + "|".join(FOLDERS) + r")/[\w./*+-]*")
_DOTTED = re.compile(
    r"(?<![\w./:@-])(?:" + "|".join((*ROOMS, "tests", "bench")) + r")(?:\.[A-Za-z_]\w*)+(?<!\.log)(?![\w/-]|\.\w)"
)
_FILE = re.compile(r"(?<![\w./*<>-])\w[\w-]*\.(?:py|toml|lock)\b(?!/)")


def missing_in_page(page: Path, text: str) -> list[str]:
    """What a Markdown page names and is not there; `page` is its place, which relative paths and links start from."""
    found = set(missing_in_text(text))
    for token in _tokens(MarkdownIt("commonmark").enable("table").parse(text)):
        if token.type == "code_inline":
            span = token.content.strip()
            if not ELSEWHERE.fullmatch(span) and ("/" in span or span.endswith((".py", ".md", ".toml", ".svg"))):
                found |= {span} if not _exists(span, page.parent) else set()
        for attribute in ("href", "src"):
            target = str(token.attrs.get(attribute, "")).partition("#")[0]
            if target and not re.match(r"[a-z]+:", target) and not (page.parent / target).exists():
                found.add(target)
    return sorted(found)


def missing_in_comments(code: str) -> list[str]:
    """What comments and docstrings of a module name and is not there."""
    found: set[str] = set()
    for text in _comments(code):
        found |= set(missing_in_text(text))
        found |= {name for name in _FILE.findall(text) if name not in _file_names()}
    return sorted(found)


def missing_in_text(text: str) -> list[str]:
    """Paths that begin at a folder of the repository, and dotted names of its modules, that lead nowhere."""
    rooted = {path.rstrip(".") for path in _ROOTED.findall(text)}
    found = {path for path in rooted if not ELSEWHERE.fullmatch(path) and not _exists(path, REPOSITORY)}
    return sorted(found | {name for name in _DOTTED.findall(text) if not _is_module(name)})


def _exists(path: str, folder: Path) -> bool:
    """Whether a path is there, from the repository or from a folder; a pattern with `*` has to match something."""
    path = path.partition("#")[0].partition("::")[0]
    if "*" in path:
        return any(any(root.glob(path.rstrip("/"))) for root in (REPOSITORY, folder))
    found = [root / path for root in (REPOSITORY, folder) if (root / path).exists()]
    return any(one.is_dir() or not path.endswith("/") for one in found)


def _is_module(name: str) -> bool:
    """Whether a dotted name is a module, something that a module defines, or a table of the database."""
    if name in _tables_and_columns():
        return True
    place = REPOSITORY
    for position, part in enumerate(parts := name.split(".")):
        if (place / part).is_dir():
            place /= part
        elif (place / f"{part}.py").is_file():
            return _defines(place / f"{part}.py", parts[position + 1 :])
        else:
            return (place / "__init__.py").is_file() and _defines(place / "__init__.py", parts[position:])
    return True


def _defines(module: Path, names: list[str]) -> bool:
    return not names or re.search(rf"\b{re.escape(names[0])}\b", module.read_text()) is not None


@cache
def _tables_and_columns() -> frozenset[str]:
    """`schema.table` and `schema.table.column` as the migrations make them."""
    scripts = (path.read_text() for path in (REPOSITORY / "migrations" / "versions").glob("*.py"))
    found: set[str] = set()
    for script in scripts:
        for table, columns in re.findall(r"(?ms)^CREATE TABLE (\w+\.\w+) \((.*?)^\);", script):
            found |= {table, *(f"{table}.{column}" for column in re.findall(r"(?m)^ {4}([a-z]\w*) ", columns))}
    return frozenset(found)


@cache
def _file_names() -> frozenset[str]:
    found = {path.name for path in REPOSITORY.iterdir()}
    return frozenset(found.union(path.name for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*")))


def _tokens(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _tokens(token.children or [])


def _comments(code: str) -> Iterator[str]:
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type == tokenize.COMMENT:
            yield token.string
    for node in ast.walk(ast.parse(code)):
        # Docstrings, and the strings below a name that say what it is.
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.value
