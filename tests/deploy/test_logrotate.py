"""The shipped logrotate file with the real logrotate, while the chat is writing: no line is lost."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import threading
from pathlib import Path

import httpx
import pytest

from tests.support.chat_service import Published, running_chat
from tests.support.waiting import until
from zhiyun.repository import REPOSITORY

pytest_plugins = ("tests.support.chat_service",)

SHIPPED = REPOSITORY / "deploy" / "logrotate" / "zhiyun"


@pytest.fixture
def logrotate() -> str:
    found = shutil.which("logrotate") or shutil.which("logrotate", path="/usr/sbin:/sbin")
    if not found:
        pytest.skip("logrotate is not installed, so the shipped file is not tried here")
    return found


def rotate(program: str, folder: Path, logs: Path) -> None:
    """One day later: `--force` is what `daily` says then."""
    config = folder / "zhiyun"
    config.write_text(SHIPPED.read_text().replace("/var/log/zhiyun/", f"{logs}/"))
    config.chmod(0o644)
    done = subprocess.run(
        [program, "--force", "--state", str(folder / "state"), str(config)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stderr


def test_it_says_what_the_manual_says() -> None:
    words = [line.strip() for line in SHIPPED.read_text().splitlines() if line and not line.startswith("#")]
    assert words == [
        "/var/log/zhiyun/*.log {", "daily", "rotate 30", "compress", "delaycompress", "missingok", "notifempty", "}",
    ]  # fmt: skip


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.slow
def test_no_line_is_lost_over_rotations_and_the_next_line_is_in_the_new_file(
    published: Published, redis_url: str, tmp_path: Path, logrotate: str, workers: str
) -> None:
    told = {**published.environment, "REDIS_URL": redis_url, "SERVING_WORKERS": workers}
    with running_chat(tmp_path, told) as chat:
        logs, answered, stop = tmp_path / "logs", list[str](), threading.Event()

        def ask(name: str) -> None:
            with chat.client() as client:
                count = 0
                while not stop.is_set():
                    request = f"{name}-{count}"
                    client.get("/api/health/live", headers={"x-request-id": request}).raise_for_status()
                    answered.append(request)
                    count += 1

        askers = [threading.Thread(target=ask, args=(f"asker{number}",)) for number in range(3)]
        for asker in askers:
            asker.start()
        try:
            for _ in range(6):
                before = len(answered)
                until(lambda before=before: len(answered) > before + 50)
                rotate(logrotate, tmp_path, logs)
        finally:
            stop.set()
            for asker in askers:
                asker.join()
        httpx.get(f"{chat.url}/api/health/live", headers={"x-request-id": "the-last-one"}).raise_for_status()
        until(lambda: "the-last-one" in (logs / "access.log").read_text())
    names = sorted(file.name for file in logs.glob("access.log*"))
    assert names == ["access.log", "access.log.1", *(f"access.log.{n}.gz" for n in range(2, 7))]
    lines: list[str] = []
    for name in names:
        file = logs / name
        text = gzip.decompress(file.read_bytes()).decode() if name.endswith(".gz") else file.read_text()
        lines += [json.loads(line)["request_id"] for line in text.splitlines()]
    kept = [request for request in lines if request.startswith("asker")]
    assert len(answered) > 300
    assert sorted(kept) == sorted(answered)


def test_thirty_old_files_are_kept_and_no_more(tmp_path: Path, logrotate: str) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    for day in range(33):
        (logs / "app.log").write_text(f"day {day}\n")
        rotate(logrotate, tmp_path, logs)
    assert len(list(logs.glob("app.log.*"))) == 30
    assert (logs / "app.log.1").read_text() == "day 32\n"
    assert gzip.decompress((logs / "app.log.30.gz").read_bytes()) == b"day 3\n"
