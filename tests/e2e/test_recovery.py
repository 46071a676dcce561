"""Everything destroyed, and back from a recovery point: the same answers, the same conversations, byte by byte."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from embedded.attach import environment as reached
from embedded.definitions import Ports
from tests.support.stack import Stack
from zhiyun.repository import REPOSITORY
from zhiyun.settings import S3Settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
CONVERSATIONS = """
    SELECT to_jsonb(c)::text FROM chat.conversations c UNION ALL SELECT to_jsonb(m)::text FROM chat.messages m ORDER BY 1
"""


class Platform(Stack):
    """A stack over documents of its own, with two stores of recovery points."""

    def __init__(self, folder: Path, s3: S3Settings, bucket: str) -> None:
        super().__init__(folder / "home")
        self.documents = folder / "documents"
        shutil.copytree(REPOSITORY / "sample" / "knowledge", self.documents)
        self.backups = folder / "backups"
        self.settings = {
            "KNOWLEDGE_SOURCES": f"handbook={self.documents}",
            "BACKUP_STORES": f"{self.backups},offsite=s3://{bucket}/zhiyun",
            "S3_ENDPOINT_URL": s3.endpoint_url,
            "S3_ACCESS_KEY_ID": s3.access_key_id,
            "S3_SECRET_ACCESS_KEY": s3.secret_access_key,
        }
        self.offsite = f"s3://{bucket}/zhiyun"

    def zhiyun(self, *arguments: str) -> str:
        """A command's output. It must succeed."""
        done = self.run(*arguments, **self.settings)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self) -> None:
        self.up(**self.settings)

    def stop(self) -> None:
        assert self.run("down").returncode == 0
        assert self.process is not None
        self.process.wait(30)

    def destroy(self) -> None:
        shutil.rmtree(self.home)
        shutil.rmtree(self.documents)

    def answers(self) -> list[dict[str, Any]]:
        """What every fourth golden question finds: documents, offsets, scores, to the last digit."""
        chat = self.layout.state()["urls"]["chat"]
        found = []
        for line in (REPOSITORY / "sample" / "golden.jsonl").read_text().splitlines()[::4]:
            asked = {"query": json.loads(line)["question"]}
            found.append(httpx.post(f"{chat}/api/retrieval", json=asked, timeout=60).raise_for_status().json())
        return found

    def ask(self, message: str) -> dict[str, Any]:
        chat = self.layout.state()["urls"]["chat"]
        return httpx.post(f"{chat}/api/chat", json={"message": message}, timeout=60).raise_for_status().json()

    def conversations(self) -> list[str]:
        """Every stored conversation and message, as text."""
        url = reached(self.layout, Ports(**self.layout.state()["ports"]))["DATABASE_URL"]
        with psycopg.connect(url) as connection:
            return [row[0] for row in connection.execute(CONVERSATIONS)]


@pytest.fixture
def platform(tmp_path: Path, s3_settings: S3Settings, s3_bucket: str) -> Iterator[Platform]:
    one = Platform(tmp_path, s3_settings, s3_bucket)
    one.start()
    yield one
    if one.process and one.process.poll() is None:
        one.process.terminate()
        one.process.wait(60)


def test_everything_destroyed_comes_back_from_a_folder_and_from_s3(platform: Platform) -> None:
    for message in ("发票怎么开？", "买了五天不想用了，钱能退吗？", "How do I sign a request?"):
        platform.ask(message)
    before = platform.answers()
    assert any(answer["evidence"] for answer in before)
    said = platform.zhiyun("backup", "now")
    assert said.count("verified") == 2
    conversations = platform.conversations()
    assert len(conversations) == 3 + 6
    files = {path.relative_to(platform.documents): path.read_bytes() for path in platform.documents.rglob("*.*")}
    platform.stop()

    for store in (str(platform.backups), platform.offsite):
        platform.destroy()
        recovered = platform.zhiyun("recover", "--from", store)
        assert "Everything is restored and verified." in recovered
        assert "Then move customers" in recovered
        assert {p.relative_to(platform.documents): p.read_bytes() for p in platform.documents.rglob("*.*")} == files
        platform.start()
        assert "no ingestion is needed: release 1 is up to date" in platform.said()
        assert platform.conversations() == conversations
        assert platform.answers() == before
        platform.stop()

    refused = platform.run("recover", "--from", str(platform.backups), **platform.settings)
    assert refused.returncode == 1
    assert "is for an empty environment" in refused.stderr
    assert "zhiyun restore" in refused.stderr
