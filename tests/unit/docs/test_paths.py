"""Paths and modules that the documents and the comments name are there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.named_paths import FOLDERS, missing_in_comments, missing_in_page, missing_in_text
from zhiyun.repository import REPOSITORY

# What `sample/` holds are documents of a knowledge base, not about this repository.
_LOOKED_AT = [REPOSITORY / folder for folder in FOLDERS if folder != "sample"]
PAGES = sorted([*REPOSITORY.glob("*.md"), *(page for folder in _LOOKED_AT for page in folder.rglob("*.md"))])
MODULES = sorted(module for folder in _LOOKED_AT for module in folder.rglob("*.py"))
OTHERS = sorted(
    [REPOSITORY / name for name in ("Makefile", "pyproject.toml", "dagster.yaml", "workspace.yaml", ".ci/run")]
    + [path for path in (REPOSITORY / "deploy").rglob("*") if path.is_file() and path.suffix not in (".md", ".pyc")]
)


def relative(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_path_that_a_page_names_is_there(page: Path) -> None:
    assert missing_in_page(page, page.read_text()) == []


@pytest.mark.parametrize("room", [path for path in _LOOKED_AT if any(path.rglob("*.py"))], ids=relative)
def test_every_path_that_a_comment_or_docstring_names_is_there(room: Path) -> None:
    named = {relative(module): missing_in_comments(module.read_text()) for module in MODULES if room in module.parents}
    assert {module: missing for module, missing in named.items() if missing} == {}


@pytest.mark.parametrize("file", OTHERS, ids=relative)
def test_every_path_that_another_file_names_is_there(file: Path) -> None:
    assert missing_in_text(file.read_text()) == []


@pytest.mark.parametrize(
    ("written", "missing"),
    [
        ("see `orchestration/backups/restoring.py`", ["orchestration/backups/restoring.py"]),
        ("a folder, `embedded/qdrant/shard/`", ["embedded/qdrant/shard/"]),
        ("`knowledge/text/plain.py/` is no folder", ["knowledge/text/plain.py/"]),
        ("prose names docs/backup.md, too", ["docs/backup.md"]),
        ("by its name alone: `agreeing.py`", ["agreeing.py"]),
        ("a room that never was: `knowlege/text/plain.py`", ["knowlege/text/plain.py"]),
        ("`knowledge.releases.pruning` is a module", ["knowledge.releases.pruning"]),
        ("`knowledge.releases.recovery.agree_not` is in it", ["knowledge.releases.recovery.agree_not"]),
        ("the table `knowledge.chunks`", ["knowledge.chunks"]),
        ("[a page](docs/backup.md#commands)", ["docs/backup.md"]),
        ("![a picture](docs/images/house.svg)", ["docs/images/house.svg"]),
        ("    .venv/bin/python -m pytest tests/unit/zhiyun/test_cli.py\n", ["tests/unit/zhiyun/test_cli.py"]),
        ("```\npython -m embedded.qdrand --port 6333\n```", ["embedded.qdrand"]),
        ("| `tests/unit/*/test_restoring.py` |", ["tests/unit/*/test_restoring.py"]),
    ],
)
def test_a_wrong_path_is_found(written: str, missing: list[str]) -> None:
    assert missing_in_page(REPOSITORY / "README.md", written) == missing


@pytest.mark.parametrize(
    "written",
    [
        "`orchestration/backups/making/steps.py`, `embedded/qdrant/shards/`, `deploy/logrotate/zhiyun`, `requirements.lock`.",
        "`knowledge.releases.recovery`, `console.cli.main`, the tables `knowledge.documents` and `operations.capacity_samples`",
        "[a page](docs/backups.md#commands), `tests/unit/*/test_cli.py`, docs/backups*.md, docs/maintenance.md.",
        "`/srv/handbook/a.md`, `.zhiyun/logs/`, `ZHIYUN_HOME/recovery.json`, `points/<id>/manifest.json`, `serving.log`",
        "http://127.0.0.1:6333/collections/knowledge/snapshots, `s3://zhiyun/docs/backup.md`, `../shared/design/passages.md`",
    ],
)
def test_what_is_there_or_elsewhere_is_no_finding(written: str) -> None:
    assert missing_in_page(REPOSITORY / "README.md", written) == []


def test_comments_are_read_and_code_is_not() -> None:
    code = '''"""See knowledge/packing.py."""
X = "docs/nowhere.md"  # as in objects/folders.py
"""What `sweeping.py` looks at."""
'''
    assert missing_in_comments(code) == ["knowledge/packing.py", "objects/folders.py", "sweeping.py"]
