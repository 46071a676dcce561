"""The chat service and its page."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings

from zhiyun.settings.fields import Port, config


class ServingSettings(BaseSettings):
    """The chat service."""

    model_config = config("SERVING_")

    host: str = Field(default="127.0.0.1", description="The address that the chat listens on.")
    port: Port = Field(
        default=8000,
        description="Its port. The default moves on to a free one if it is taken; a port that was set does not.",
    )
    workers: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1, description="Chat processes.", json_schema_extra={"unit": "processes"}
    )
    max_message_chars: Annotated[int, Field(ge=1)] = Field(
        default=2000, description="A longer question is refused.", json_schema_extra={"unit": "characters"}
    )
    service_name: str = Field(default="智云客服", description="The name on the chat page.")
    contact: str = Field(
        default="",
        description="How to reach a person, for example `400-000-0000`: said where the documents hold no answer.",
    )
    starters: str = Field(
        default="",
        description="Questions that the chat page offers, separated by `|`. Empty: some about the sample documents, "
        "while those are the source.",
    )
    forwarded_allow_ips: str = Field(
        default="127.0.0.1",
        description="Proxies whose `X-Forwarded-For` is believed: addresses separated by commas, or `*`.",
    )
