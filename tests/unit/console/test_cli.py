"""What the command line promises without a running stack."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from console.cli import main
from zhiyun.repository import REPOSITORY
from zhiyun.settings import configuration_markdown


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ZHIYUN_HOME that nothing runs in, and no `.env`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZHIYUN_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LOG_DIR", raising=False)
    return tmp_path / "home"


def test_configuration_prints_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["configuration"]) == 0
    assert capsys.readouterr().out == configuration_markdown()


def test_version_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out.startswith("zhiyun ")


@pytest.mark.parametrize("command", ["up", "status", "down", "env", "ingest"])
def test_a_wrong_setting_stops_every_command_with_one_line_that_names_it(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    monkeypatch.setenv("SERVING_PORT", "eight thousand")
    assert main([command]) == 2
    error = capsys.readouterr().err
    assert error.startswith("SERVING_PORT=")
    assert error.count("\n") == 1
    assert not home.exists()


def test_sources_that_cannot_be_understood_stop_the_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    monkeypatch.setenv("KNOWLEDGE_SOURCES", "handbook=,b")
    assert main(["up"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("KNOWLEDGE_SOURCES=")
    assert said.count("\n") == 1


def test_status_of_a_stack_that_does_not_run_is_3(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    assert main(["status"]) == 3
    assert "not running" in capsys.readouterr().out
    assert main(["status", "--json"]) == 3
    told = json.loads(capsys.readouterr().out)
    assert told["running"] is False
    assert told["home"] == str(home)


def test_down_is_content_when_nothing_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["down"]) == 0
    assert "not running" in capsys.readouterr().out


def test_ingest_needs_a_running_stack(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ingest"]) == 3
    assert "zhiyun up" in capsys.readouterr().err


def test_env_needs_a_running_stack_and_gives_a_shell_nothing_to_take_in(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env"]) == 3
    told = capsys.readouterr()
    assert told.out == ""
    assert "zhiyun up" in told.err


def test_a_home_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("ZHIYUN_HOME", str(tmp_path / "file" / "home"))
    assert main(["up"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("ZHIYUN_HOME=")
    assert error.count("\n") == 1


def test_the_command_line_loads_nothing_heavy() -> None:
    code = "import sys, console.cli; sys.exit(bool({'torch', 'dagster', 'psycopg', 'httpx'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, env=os.environ, check=False).returncode == 0
