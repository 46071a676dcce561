"""The language model that writes answers."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings

from zhiyun.settings.fields import config, scheme


class LlmSettings(BaseSettings):
    """The language model: any endpoint that speaks the OpenAI protocol. Without one, answers are extractive."""

    model_config = config("LLM_")

    base_url: Annotated[str, scheme("http", "https")] = Field(
        default="", description="For example `http://127.0.0.1:11434/v1`. Empty: answers are quoted from the passages."
    )
    api_key: str = Field(default="", description="Its API key.", json_schema_extra={"secret": True})
    model: str = Field(default="", description="The model's name there. Required with `LLM_BASE_URL`.")
    connect_timeout: Annotated[float, Field(gt=0)] = Field(
        default=5, description="How long opening a connection may take.", json_schema_extra={"unit": "seconds"}
    )
    timeout: Annotated[float, Field(gt=0)] = Field(
        default=60, description="How long a whole answer may take.", json_schema_extra={"unit": "seconds"}
    )
    first_token_timeout: Annotated[float, Field(gt=0)] = Field(
        default=20,
        description="How long the first word may take; then the answer is extractive.",
        json_schema_extra={"unit": "seconds"},
    )
    max_tokens: Annotated[int, Field(ge=1)] = Field(
        default=800, description="Length of an answer at most.", json_schema_extra={"unit": "tokens"}
    )
    temperature: Annotated[float, Field(ge=0, le=2)] = Field(default=0.2, description="Sampling temperature.")
