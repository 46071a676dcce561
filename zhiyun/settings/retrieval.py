"""How many passages are looked for and given to an answer."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings

from zhiyun.settings.fields import config


class RetrievalSettings(BaseSettings):
    """How evidence is chosen for an answer."""

    model_config = config("RETRIEVAL_")

    limit: Annotated[int, Field(ge=1, le=50)] = Field(
        default=6, description="Passages given to an answer at most.", json_schema_extra={"unit": "passages"}
    )
    candidates: Annotated[int, Field(ge=10, le=1000)] = Field(
        default=50, description="Passages that each half of the search brings.", json_schema_extra={"unit": "passages"}
    )
    evidence_threshold: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.42,
        description="Evidence with a lower confidence is no evidence: the answer is then an honest “I don't know”.",
    )
