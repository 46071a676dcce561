"""`zhiyun env`: a shell that has taken it in is still a shell of the same installation."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from console.doctor import site
from embedded.attach import last_known, shell_environment
from embedded.definitions import Ports
from embedded.layout import Layout
from tests.support.diagnosed import settings

PORTS = Ports(serving=1, dagster=2, qdrant=3, postgres=4, redis=5, code=6)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Layout]:
    """A ZHIYUN_HOME that has run, and does not now."""
    monkeypatch.chdir(tmp_path)
    one = Layout(tmp_path / "home", tmp_path / "home" / "logs")
    one.run.mkdir(parents=True)
    urls = {"chat": "http://127.0.0.1:1", "dagster": "http://127.0.0.1:2"}
    one.state_file.write_text(json.dumps({"ports": dataclasses.asdict(PORTS), "urls": urls}))
    with settings(ZHIYUN_HOME=str(one.home)):
        yield one


def test_it_has_every_store_the_pages_and_postgresqls_own_programs(place: Layout) -> None:
    told = shell_environment(place)
    assert set(told) == {
        "DATABASE_URL", "DATABASE_ADMIN_URL", "DAGSTER_DATABASE_URL", "QDRANT_URL", "REDIS_URL",
        "CHAT_URL", "DAGSTER_UI_URL", "LOG_DIR", "PATH",
    }  # fmt: skip
    assert told["DATABASE_URL"].startswith("postgresql://zhiyun:")
    assert told["DATABASE_ADMIN_URL"].startswith("postgresql://postgres:")
    assert told["QDRANT_URL"] == "http://127.0.0.1:3"
    first, _, rest = told["PATH"].partition(os.pathsep)
    assert (Path(first) / "pg_dump").exists()
    assert rest == os.environ["PATH"]


def test_it_is_empty_where_nothing_has_ever_run(tmp_path: Path) -> None:
    assert shell_environment(Layout(tmp_path, tmp_path)) == {}
    assert list(tmp_path.iterdir()) == []


def test_to_doctor_the_services_are_still_those_of_zhiyun_home(place: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in shell_environment(place).items():
        monkeypatch.setenv(name, value)
    found = site.find()
    assert found.embedded
    assert found.start("PostgreSQL") == "zhiyun down; zhiyun up"


def test_another_server_is_another_server(place: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", last_known(place)["DATABASE_URL"].replace("127.0.0.1", "db.example"))
    assert not site.find().embedded
