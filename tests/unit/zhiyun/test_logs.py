"""Log files: what is written where, also after a rotation, by several processes, and where nothing can be written."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from zhiyun import logs
from zhiyun.settings import LogSettings, SettingsError


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in list(root.handlers):
        if handler not in handlers:
            root.removeHandler(handler)
            handler.close()
    logging.getLogger(logs.ACCESS).handlers.clear()
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def configure(folder: Path, level: str = "INFO") -> None:
    logs.configure("test", LogSettings(dir=str(folder), level=level), console=False)  # type: ignore[arg-type]


def lines(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_each_file_has_what_the_manual_says(tmp_path: Path) -> None:
    configure(tmp_path)
    structlog.get_logger("a").info("started", port=8000)
    logging.getLogger("library").warning("odd: %s", "值")
    logging.getLogger("library").debug("not at this level")
    structlog.get_logger(logs.ACCESS).info("request", status=200)
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger("a").exception("failed")
    app = lines(tmp_path / "app.log")
    assert [line["event"] for line in app] == ["started", "odd: 值", "failed"]
    assert app[0] | {"service": "test", "level": "info", "port": 8000} == app[0]
    [error] = lines(tmp_path / "error.log")
    assert "ValueError: broken" in str(error["exception"])
    assert "Traceback" in str(error["exception"])
    assert [line["status"] for line in lines(tmp_path / "access.log")] == [200]


def test_after_a_rotation_the_next_line_is_in_the_new_file(tmp_path: Path) -> None:
    configure(tmp_path)
    log = structlog.get_logger("a")
    log.info("before")
    (tmp_path / "app.log").rename(tmp_path / "app.log.1")
    log.info("after")
    assert [line["event"] for line in lines(tmp_path / "app.log.1")] == ["before"]
    assert [line["event"] for line in lines(tmp_path / "app.log")] == ["after"]


def test_a_folder_that_goes_away_and_comes_back_fails_nobody(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    configure(folder)
    log = structlog.get_logger("a")
    folder.rename(tmp_path / "away")
    log.info("lost")
    folder.mkdir()
    log.info("found")
    assert [line["event"] for line in lines(folder / "app.log")] == ["found"]


def test_credentials_are_blanked(tmp_path: Path) -> None:
    configure(tmp_path)
    log = structlog.get_logger("a")
    log.error("down", url="postgresql://zhiyun:pass-word@db/zhiyun", header="Authorization: Bearer abc.def")
    log.error("refused sk-abcdefghijkl")
    text = (tmp_path / "error.log").read_text()
    assert "pass-word" not in text
    assert "abc.def" not in text
    assert "sk-abcdefghijkl" not in text
    assert "zhiyun:***@db" in text


def test_lines_of_several_processes_do_not_mix(tmp_path: Path) -> None:
    program = (
        "import sys, structlog; from zhiyun import logs; from zhiyun.settings import LogSettings;"
        "logs.configure('p', LogSettings(dir=sys.argv[1]), console=False); log = structlog.get_logger('a');"
        "[log.info('x' * 20_000, n=n) for n in range(100)]"
    )
    running = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path)]) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert len(lines(tmp_path / "app.log")) == 300


def test_a_folder_that_cannot_be_written_is_told_in_one_line_that_names_the_setting(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(SettingsError, match=r"^LOG_DIR=.*Nothing was started\.$") as raised:
        configure(file / "logs")
    assert "\n" not in str(raised.value)
