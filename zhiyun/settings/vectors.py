"""The vector store."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings

from zhiyun.settings.fields import config, scheme


class QdrantSettings(BaseSettings):
    """The vector store, always reached over HTTP: a Qdrant server, or the embedded one."""

    model_config = config("QDRANT_")

    url: Annotated[str, scheme("http", "https")] = Field(
        default="http://127.0.0.1:6333",
        description="Where the vector store is. `zhiyun up` sets it for the services it starts.",
    )
    api_key: str = Field(default="", description="Its API key.", json_schema_extra={"secret": True})
    collection: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] = Field(
        default="knowledge", description="The alias under which the live collection is published."
    )
    timeout: Annotated[int, Field(gt=0)] = Field(
        default=10, description="How long one call may take.", json_schema_extra={"unit": "seconds"}
    )
