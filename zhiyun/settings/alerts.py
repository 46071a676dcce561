"""Alerts: where they are sent, and from when on something is one."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings

from zhiyun.settings.fields import config, scheme


class AlertSettings(BaseSettings):
    """Who is told when something is wrong and nobody looks."""

    model_config = config("ALERT_")

    webhook_url: Annotated[str, scheme("http", "https")] = Field(
        default="",
        description="Alerts are sent there as JSON (POST). Empty: they are only seen in the Dagster UI and in metrics.",
        json_schema_extra={"secret": True},
    )
    format: Literal["generic", "slack", "dingtalk", "wecom"] = Field(
        default="generic",
        description="Whose webhook it is: `generic` sends `status` and `alerts` with `key`, `severity`, `title`, `text` and `since`.",
    )
    secret: str = Field(
        default="",
        description="With it messages are signed: the way of DingTalk's robots for `dingtalk`, an HMAC-SHA256 of the body in "
        "`X-Zhiyun-Signature` for `generic`. Slack and WeCom have none.",
        json_schema_extra={"secret": True},
    )
    repeat_hours: Annotated[float, Field(gt=0)] = Field(
        default=12,
        description="An alert that stays is sent again after this.",
        json_schema_extra={"unit": "hours"},
    )
    interval: Annotated[int, Field(ge=5)] = Field(
        default=60,
        description="How often Dagster's state is looked at for something wrong.",
        json_schema_extra={"unit": "seconds"},
    )
    tick_minutes: Annotated[float, Field(gt=0)] = Field(
        default=10,
        description="A schedule may be so late; beyond it there is an alert.",
        json_schema_extra={"unit": "minutes"},
    )
    heartbeat_minutes: Annotated[float, Field(gt=0)] = Field(
        default=5,
        description="Dagster's daemon may be silent for so long; beyond it there is an alert.",
        json_schema_extra={"unit": "minutes"},
    )
    silent_minutes: Annotated[float, Field(gt=0)] = Field(
        default=30,
        description="A run in progress may report nothing for so long; beyond it there is an alert.",
        json_schema_extra={"unit": "minutes"},
    )
