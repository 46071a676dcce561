"""What doctor finds, for tests: by code, and in words that are whole in both languages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from console.doctor.diagnosis import diagnose
from console.doctor.kinds import Finding
from zhiyun.settings import ALL, variable_name

DEAD = {
    "DATABASE_URL": "postgresql://zhiyun:secret-1@127.0.0.1:1/zhiyun",
    "REDIS_URL": "redis://:secret-2@127.0.0.1:1/0",
    "QDRANT_URL": "http://127.0.0.1:1",
    "DAGSTER_DATABASE_URL": "postgresql://zhiyun:secret-3@127.0.0.1:1/dagster",
    "SERVING_PORT": "1",
    "DAGSTER_PORT": "1",
}
"""Services that the settings name, and that are not there."""


@contextmanager
def settings(**values: str) -> Iterator[None]:
    """The environment with these settings of the platform and no others."""
    with pytest.MonkeyPatch.context() as patch:
        for model in ALL:
            for field in model.model_fields:
                patch.delenv(variable_name(model, field), raising=False)
        for name, value in values.items():
            patch.setenv(name, value)
        yield


def everything(*areas: str, **values: str) -> list[Finding]:
    """What doctor finds in these areas with these settings; its words are whole in both languages."""
    with settings(**values):
        _, findings = diagnose(areas)
    for finding in findings:
        for language in ("en", "zh"):
            words = f"{finding.says(language)} {finding.mend(language)}"
            assert words.strip()
            assert "secret-" not in words, "a secret is told"
            if finding.severity == "error":
                assert finding.mend(language), f"{finding.kind.code} tells no remedy"
    return findings


def found(*areas: str, **values: str) -> dict[str, Finding]:
    """The same by code, the last of each."""
    return {finding.kind.code: finding for finding in everything(*areas, **values)}


def told(findings: dict[str, Finding]) -> dict[str, str]:
    """What is not well, in English: for messages of failing tests, and to compare with nothing."""
    return {code: finding.says("en") for code, finding in findings.items() if finding.severity in ("warning", "error")}
