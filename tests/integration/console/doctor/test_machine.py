"""Doctor and this machine: settings, disks, memory, processors, permissions, ports, and a stack that is not running."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from console.cli import main
from console.doctor.kinds import KINDS
from tests.support.diagnosed import DEAD, found, told
from tests.support.faults.small_disk import small_disk
from zhiyun.repository import REPOSITORY


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No `.env` of the repository counts, nor its sample."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()


def say(*areas: str, **settings: str) -> dict[str, str]:
    mine = {"KNOWLEDGE_SOURCES": "docs", "ZHIYUN_HOME": "home"}
    return {code: finding.says("en") for code, finding in found(*areas, **{**mine, **settings}).items()}


# Settings


def test_every_wrong_setting_is_told_at_once_and_the_rest_is_looked_at_all_the_same() -> None:
    with pytest.MonkeyPatch.context():
        findings = found(
            "configuration", "redis", "llm",
            **{**DEAD, "SERVING_PORT": "eight", "DATABASE_POOL_MIN": "50", "DATABASE_POOL_MAX": "10", "LLM_BASE_URL": "ftp://x"},
        )  # fmt: skip
    assert "llm" in findings["doctor.settings_wrong"].area
    assert "network.refused" in findings  # Redis
    assert findings["configuration.wrong_value"].severity == "error"
    from tests.support.diagnosed import settings
    from zhiyun.settings import problems

    with settings(SERVING_PORT="eight", DATABASE_POOL_MIN="50", DATABASE_POOL_MAX="10", LLM_BASE_URL="ftp://x"):
        assert [problem.split("=")[0] for problem in problems()] == [
            "SERVING_PORT",
            "LLM_BASE_URL",
            "DATABASE_POOL_MIN",
        ]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("KNOWLEDGE_SOURCES", "a=,b"),
        ("CAPACITY_VOLUMES", "no-equals-sign"),
        ("BACKUP_STORES", "s3://"),
        ("BACKUP_KEY_FILE", "no-such-file"),
        ("LLM_BASE_URL", "http://127.0.0.1/v1"),
        ("DAGSTER_PORT", "8000"),
    ],
)
def test_a_setting_that_is_wrong_only_when_it_is_used(setting: str, value: str) -> None:
    said = say("configuration", **{setting: value})
    assert "configuration.wrong_value" in said
    names = {"LLM_BASE_URL": "LLM_MODEL"}
    assert names.get(setting, setting) in said["configuration.wrong_value"]


def test_a_name_that_is_misspelt() -> None:
    Path(".env").write_text("DATABASE_POOL_MXA=20\nSERVING_PORTS=8080\nPATH_OF_SOMEBODY=1\n")
    findings = found("configuration", KNOWLEDGE_SOURCES="docs", ZHIYUN_HOME="home")
    assert "SERVING_PORTS is no setting" in findings["configuration.unknown_name"].says("en")
    assert "SERVING_PORT is one" in findings["configuration.unknown_name"].says("en")
    assert ".env" in findings["configuration.unknown_name"].mend("en")


def test_a_file_of_settings_that_is_no_text() -> None:
    Path(".env").write_bytes(b"SERVING_PORT=\xff\xfe80\x00")
    said = say("configuration", "llm")
    assert ".env cannot be read: it is not UTF-8" in said["configuration.wrong_value"]
    assert "doctor.settings_wrong" in said
    assert main(["status"]) == 2


def test_a_user_interface_that_is_open_to_all() -> None:
    assert "has no login" in say("configuration", DAGSTER_HOST="0.0.0.0")["configuration.dagster_open"]


# The machine


def test_disks_at_71_86_and_96_percent(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 32) as disk:
        where = {"CAPACITY_VOLUMES": f"files={disk.path}"}
        disk.fill_to(50)
        assert "files" in say("machine", **where)["machine.disk_well"]
        for percent, severity in ((71, "warning"), (86, "warning"), (96, "error")):
            disk.fill_to(percent)
            finding = found("machine", KNOWLEDGE_SOURCES="docs", **where)["machine.disk"]
            assert finding.severity == severity
            assert f"{percent}." in finding.says("en")
        assert "Ingestion and backups do not start" in finding.says("en")
        assert "入库与备份不再启动" in finding.says("zh")


def test_a_service_that_uses_its_memory_up(postgres_url: str) -> None:
    """The limit is lowered to what PostgreSQL really uses."""
    said = say("machine", CAPACITY_MEMORY_POSTGRES_GB="0.002")
    assert said["machine.memory"].startswith("postgres uses")


def _spin() -> None:
    while True:
        pass


@contextmanager
def spinning(count: int) -> Iterator[None]:
    spinners = [multiprocessing.Process(target=_spin, daemon=True) for _ in range(count)]
    for one in spinners:
        one.start()
    try:
        yield
    finally:
        for one in spinners:
            one.kill()
            one.join()


def test_processors_that_are_all_busy() -> None:
    cores = os.cpu_count() or 1
    with spinning(4 * cores), pytest.MonkeyPatch.context() as patch:
        # The load of a minute takes a minute to come.
        patch.setattr("os.getloadavg", lambda: (4.0 * cores, 0.0, 0.0))
        said = say("machine")
    assert "processor cores are busy" in said["machine.processor"]
    assert "python" in said["machine.processor"]


def test_folders_that_cannot_be_used() -> None:
    Path("home").write_text("a file, and no folder")
    assert "ZHIYUN_HOME" in say("machine")["machine.not_writable"]
    said = say("machine", KNOWLEDGE_SOURCES="gone")
    assert said["machine.folder_missing"].startswith("KNOWLEDGE_SOURCES")


def test_a_disk_that_is_read_only(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 4) as disk:
        subprocess.run(["mount", "-o", "remount,ro", str(disk.path)], check=True)
        assert "Read-only" in say("machine", ZHIYUN_HOME=str(disk.path))["machine.not_writable"]


def test_secrets_that_everybody_can_read(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("AGE-SECRET-KEY-1")
    key.chmod(stat.S_IRUSR | stat.S_IROTH)
    assert "can be read by every user" in say("machine", BACKUP_KEY_FILE=str(key))["machine.secret_exposed"]
    key.chmod(stat.S_IRUSR)
    assert "machine.secret_exposed" not in say("machine", BACKUP_KEY_FILE=str(key))


# A stack that does not run


def test_one_that_never_ran_is_told_and_nothing_is_made(tmp_path: Path) -> None:
    findings = found(KNOWLEDGE_SOURCES="docs", ZHIYUN_HOME="home")
    assert "never run" in findings["processes.never_started"].says("en")
    assert not Path("home").exists()
    assert {one.area for one in findings.values() if one.severity == "error"} == {"processes"}, told(findings)


def test_a_port_that_was_set_and_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        findings = found("processes", ZHIYUN_HOME="home", SERVING_PORT=str(port))
    assert f"SERVING_PORT={port} is in use by" in findings["processes.port_taken"].says("en")
    assert f"process {os.getpid()}" in findings["processes.port_taken"].says("en")


def test_an_address_that_is_not_of_this_machine() -> None:
    said = say("processes", SERVING_HOST="203.0.113.9", SERVING_PORT="8123")
    assert "cannot listen there" in said["processes.cannot_listen"]


def test_another_user_s_folder_is_not_judged_from_outside(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 12345, -1)
    tmp_path.chmod(0o755)
    ran = subprocess.run(
        [sys.executable, "-c", "import os; from tests.support.diagnosed import found; found('processes', 'machine', ZHIYUN_HOME='/none'); "
         f"os.seteuid(54321); print(sorted(found('processes', 'machine', ZHIYUN_HOME={str(home)!r}, KNOWLEDGE_SOURCES='/')))"],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "processes.other_user" in ran.stdout, ran.stderr
    assert "machine.not_writable" not in ran.stdout


# The command


def test_the_command_says_it_in_both_languages_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in DEAD.items():
            patch.setenv(name, value)
        patch.setenv("LANG", "zh_CN.UTF-8")
        patch.delenv("LC_ALL", raising=False)
        patch.delenv("LC_MESSAGES", raising=False)
        assert main(["doctor", "redis"]) == 2
        assert "没有程序在监听" in capsys.readouterr().out
        assert main(["doctor", "redis", "--language", "en"]) == 2
        assert "nothing listens on" in capsys.readouterr().out
        assert main(["doctor", "redis", "--json"]) == 2
        whole = json.loads(capsys.readouterr().out)
    assert whole["status"] == "error"
    [finding] = whole["findings"]
    assert finding["area"] == "redis"
    assert finding["code"] == "network.refused"
    assert finding["values"]["setting"] == "REDIS_URL"


def test_its_exit_status_tells_how_bad_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZHIYUN_HOME", "home")
        patch.delenv("LLM_BASE_URL", raising=False)
        assert main(["doctor", "llm"]) == 0
        patch.setenv("DAGSTER_HOST", "0.0.0.0")
        assert main(["doctor", "configuration"]) == 1
        assert main(["doctor", "no-such-area"]) == 2
    assert "no area 'no-such-area'" in capsys.readouterr().err


def test_every_kind_is_told_the_same_in_both_languages() -> None:
    for kind in KINDS.values():
        for english, chinese in (kind.says, kind.mend):
            assert bool(english) == bool(chinese), kind.code
        names = [
            {name for name in kind.fields(text) if not name.endswith("_zh")}
            for text in (kind.says[0] + kind.mend[0], kind.says[1] + kind.mend[1])
        ]
        allowed = {name.removesuffix("_zh") for name in kind.fields(kind.says[1] + kind.mend[1])}
        assert names[1] <= names[0] | allowed, kind.code
