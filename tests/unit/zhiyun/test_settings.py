"""Settings: one place, one line when wrong, and a page that is always current."""

from pathlib import Path

import pytest

from zhiyun import settings
from zhiyun.repository import REPOSITORY
from zhiyun.settings import DatabaseSettings, LlmSettings, RedisSettings, ServingSettings, SettingsError, load


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without a `.env` of the developer's."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_configuration_page_is_current() -> None:
    page = (REPOSITORY / "docs" / "configuration.md").read_text()
    assert page == settings.configuration_markdown(), "run `.venv/bin/zhiyun configuration > docs/configuration.md`"


def test_every_variable_is_named_once() -> None:
    names = [settings.variable_name(model, field) for model in settings.ALL for field in model.model_fields]
    assert len(names) == len(set(names))


def test_the_pools_have_the_manuals_numbers() -> None:
    database, redis = load(DatabaseSettings), load(RedisSettings)
    assert (database.pool_min, database.pool_max, database.connect_timeout, database.idle_timeout) == (10, 100, 30, 300)
    assert (redis.pool_max, redis.pool_idle, redis.connect_timeout) == (50, 10, 5)


@pytest.mark.parametrize(
    ("variable", "value", "model"),
    [
        ("SERVING_PORT", "eighty", ServingSettings),
        ("SERVING_PORT", "70000", ServingSettings),
        ("DATABASE_URL", "mysql://localhost/x", DatabaseSettings),
        ("DATABASE_POOL_MAX", "0", DatabaseSettings),
        ("LLM_TIMEOUT", "-1", LlmSettings),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, model: type[ServingSettings]
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as raised:
        load(model)
    assert str(raised.value).startswith(f"{variable}=")
    assert "\n" not in str(raised.value)


def test_a_wrong_secret_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://someone:hunter2@localhost/x")
    with pytest.raises(SettingsError) as raised:
        load(DatabaseSettings)
    assert "hunter2" not in str(raised.value)


def test_an_empty_variable_means_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVING_PORT", "")
    assert load(ServingSettings).port == 8000


def test_a_dotenv_file_is_read_and_the_environment_wins(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (elsewhere / ".env").write_text("SERVING_PORT=8100\nLLM_MODEL=from-file\n")
    monkeypatch.setenv("LLM_MODEL", "from-environment")
    assert load(ServingSettings).port == 8100
    assert load(LlmSettings).model == "from-environment"


def test_settings_that_need_each_other_are_checked_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_BASE_URL", "http://127.0.0.1:1/v1")
    with pytest.raises(SettingsError, match="LLM_MODEL"):
        settings.check_all()
