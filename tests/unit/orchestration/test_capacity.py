"""Capacity's arithmetic: levels, trends, limits and where they come from."""

from __future__ import annotations

import base64
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import pytest

from orchestration.capacity import disk, memory, plots, trend
from zhiyun.settings import CapacitySettings, SettingsError, check_all

START = datetime(2026, 11, 1, tzinfo=UTC)


def series(values: list[float], minutes: float = 60) -> list[tuple[datetime, float]]:
    return [(START + timedelta(minutes=minutes * n), value) for n, value in enumerate(values)]


@pytest.mark.parametrize(
    ("percent", "level"),
    [(0, "ok"), (70, "ok"), (70.1, "warning"), (85, "warning"), (85.1, "serious"), (95, "serious"), (95.1, "critical"), (100, "critical")],
)  # fmt: skip
def test_a_level_begins_above_the_manuals_threshold(percent: float, level: str) -> None:
    assert disk.level(percent, CapacitySettings()) == level


def test_a_steady_growth_is_found_exactly() -> None:
    found = trend.fit(series([1000 + 10 * n for n in range(100)]))
    assert found
    assert found.per_day == pytest.approx(240)
    assert trend.days_to_full(found, 480) == pytest.approx(2)


def test_a_third_of_wild_samples_does_not_turn_the_line() -> None:
    chance = random.Random(5)
    values = [1000 + 10 * n + (chance.choice([0, 0, 8000]) if n % 3 == 0 else chance.gauss(0, 5)) for n in range(300)]
    found = trend.fit(series(values))
    assert found
    assert found.per_day == pytest.approx(240, rel=0.1)


def test_a_clean_up_in_the_middle_leaves_the_growth() -> None:
    values = [1000.0 + 10 * n for n in range(200)] + [1500.0 + 10 * n for n in range(30)]
    found = trend.fit(series(values))
    assert found
    assert found.per_day == pytest.approx(240, rel=0.25)


@pytest.mark.parametrize(
    "values", [[5.0] * 50, [random.Random(1).gauss(100, 10) for _ in range(200)], [100.0 - n for n in range(50)]]
)
def test_what_does_not_surely_grow_has_no_day_on_which_it_is_full(values: list[float]) -> None:
    assert trend.days_to_full(trend.fit(series(values)), 1000) is None


def test_too_few_or_too_fresh_samples_say_nothing() -> None:
    assert trend.fit(series([1, 2, 3, 4, 5, 6, 7])) is None
    assert trend.fit(series([float(n) for n in range(60)], minutes=1)) is None
    assert trend.fit([]) is None


def test_ninety_days_of_samples_are_fitted_by_their_medians() -> None:
    found = trend.fit(series([n / 4 for n in range(90 * 96)], minutes=15))
    assert found
    assert found.per_day == pytest.approx(24)
    assert found.samples == 90 * 96


def test_the_embedded_stacks_folders_are_watched_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CAPACITY_VOLUMES", raising=False)
    monkeypatch.setenv("KNOWLEDGE_SOURCES", f"docs={tmp_path}/docs")
    monkeypatch.setenv("ZHIYUN_HOME", str(tmp_path))
    monkeypatch.delenv("LOG_DIR", raising=False)
    manual = {volume.name: str(volume.path) for volume in disk.volumes(CapacitySettings())}
    assert manual == {
        "database": "/var/lib/postgresql", "vectors": "/var/lib/qdrant", "files": "/var/lib/minio", "logs": "/var/log",
    }  # fmt: skip
    (tmp_path / "postgres").mkdir()
    embedded = {volume.name: volume.path.relative_to(tmp_path) for volume in disk.volumes(CapacitySettings())}
    assert embedded == {
        "database": Path("postgres"), "vectors": Path("qdrant"), "files": Path("docs"), "logs": Path("logs"),
    }  # fmt: skip


@pytest.mark.parametrize("value", ["/var/log", "a=", "=/var/log", "a=/x,a=/y"])
def test_volumes_that_cannot_be_understood_are_named(value: str) -> None:
    with pytest.raises(SettingsError, match=r"^CAPACITY_VOLUMES="):
        disk.volumes(CapacitySettings(volumes=value))


def test_thresholds_out_of_order_stop_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPACITY_WARNING_PERCENT", "90")
    with pytest.raises(SettingsError, match=r"^CAPACITY_WARNING_PERCENT=90: must be less"):
        check_all()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"memory.current": "900", "memory.max": "1000", "memory.stat": "anon 1\ninactive_file 300"}, (600, 1000)),
        ({"memory.current": "900", "memory.max": "max", "memory.stat": ""}, (900, None)),
        (
            {
                "memory.usage_in_bytes": "900", "memory.limit_in_bytes": "1000",
                "memory.stat": "inactive_file 5\ntotal_inactive_file 100",
            },
            (800, 1000),
        ),
        ({"memory.usage_in_bytes": "9", "memory.limit_in_bytes": "9223372036854771712", "memory.stat": ""}, (9, None)),
        ({}, None),
    ],
)  # fmt: skip
def test_both_versions_of_control_groups_are_read(
    tmp_path: Path, files: dict[str, str], expected: tuple[int, int | None] | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text + "\n")
    assert memory.group_figures(tmp_path) == expected


def process(pid: int, name: str, *command: str, mb: int = 100, own: int = 100, group: Path | None = None, parent: int = 1) -> memory.Process:  # fmt: skip
    return memory.Process(pid, name, command, mb * 1_000_000, own * 1_000_000, group, parent)


def test_shared_memory_counts_once_and_children_belong_to_their_service() -> None:
    seen = [process(10 + n, "postgres", "postgres: writer", mb=140, own=10) for n in range(5)]
    seen += [
        process(30, "python", "python", "-m", "serving"),
        process(31, "python", "python", "-c", "spawn", parent=30),
    ]
    seen += [
        process(40, "python", "/x/python", "-m", "dagster", "api", "grpc"),
        process(50, "python", "python", "-m", "pytest"),
    ]
    found = {one.service: one for one in memory.measure(CapacitySettings(), seen)}
    assert found["postgres"].used == (5 * 10 + 130) * 1_000_000
    assert found["web"].processes == 2
    assert found["web"].limit == 2 * 1024**3
    assert found["worker"].limit == 4 * 1024**3
    assert "redis" not in found


def test_a_control_group_of_its_own_is_believed_and_a_shared_one_is_not(tmp_path: Path) -> None:
    for name, text in {"memory.current": "700", "memory.max": "1000", "memory.stat": ""}.items():
        (tmp_path / name).write_text(text)
    own = [process(1, "redis-server", group=tmp_path)]
    [redis, _] = memory.measure(CapacitySettings(), own)
    assert (redis.used, redis.limit, redis.percent) == (700, 1000, 70)
    shared = [*own, process(2, "postgres", group=tmp_path)]
    assert {m.limit for m in memory.measure(CapacitySettings(), shared)[:2]} == {2 * 1024**3, 4 * 1024**3}


def test_a_plot_is_a_whole_image_that_shows_its_last_figure() -> None:
    image = plots.percent_plot("logs, <files>", series([float(n % 100) for n in range(2000)]), (70, 85, 95))
    data = image.partition("base64,")[2].rstrip(")")
    drawn = ElementTree.fromstring(base64.b64decode(data))
    assert drawn.tag.endswith("svg")
    assert len(image) < 20_000
    assert plots.percent_plot("none", []) == ""
