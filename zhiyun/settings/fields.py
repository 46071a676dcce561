"""What all settings have in common: where their values come from, kinds of values, and the names of variables."""

from __future__ import annotations

from typing import Annotated, Any, cast

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

Port = Annotated[int, Field(ge=1, le=65535)]


def config(prefix: str) -> SettingsConfigDict:
    """How the settings of one concern are read: from variables that begin with `prefix`, then from `.env`."""
    return SettingsConfigDict(
        env_prefix=prefix, env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True, validate_default=True
    )


def scheme(*schemes: str) -> AfterValidator:
    """A URL, where there is one, has one of these schemes."""

    def check(value: str) -> str:
        if value and not value.startswith(tuple(f"{scheme}://" for scheme in schemes)):
            raise ValueError(f"must start with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        return value

    return AfterValidator(check)


def variable_name(model: type[BaseSettings], field: str) -> str:
    """The environment variable of a field: `variable_name(DatabaseSettings, "url")` is `DATABASE_URL`."""
    prefix = model.model_config.get("env_prefix", "")
    name = field.upper()
    return name if prefix and name.startswith(prefix) else f"{prefix}{name}"


def extra(model: type[BaseSettings], field: str) -> dict[str, Any]:
    """What a field says beyond its type: its `unit`, and whether it is `secret`."""
    info = model.model_fields.get(field)
    said = cast("dict[str, Any] | None", info.json_schema_extra) if info else None
    return said or {}
