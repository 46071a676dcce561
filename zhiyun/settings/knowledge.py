"""Sources, how they are cut, and when they are taken in."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings

from zhiyun.settings.fields import config


class KnowledgeSettings(BaseSettings):
    """What is taken in, and how it is cut."""

    model_config = config("KNOWLEDGE_")

    sources: str = Field(
        default="sample/knowledge",
        description="Folders with Markdown, text and HTML files, separated by commas; `name=folder` gives a source "
        "another name than its folder's. A relative folder is below the working directory.",
    )
    max_file_mb: Annotated[float, Field(gt=0)] = Field(
        default=20, description="A larger file is quarantined.", json_schema_extra={"unit": "MB"}
    )
    passage_chars: Annotated[int, Field(ge=100, le=4000)] = Field(
        default=480, description="The length that passages aim at.", json_schema_extra={"unit": "characters"}
    )
    passage_max_chars: Annotated[int, Field(ge=200, le=20000)] = Field(
        default=2400,
        description="Tables and code blocks stay whole up to this length; a longer one is cut between rows or lines.",
        json_schema_extra={"unit": "characters"},
    )
    golden_set: str = Field(
        default="sample/golden.jsonl",
        description="Questions with the document that answers each (JSON lines with `question` and `document`). Retrieval "
        "is measured with it, and the weight of the dense half fitted. Questions about documents that are not there are left out.",
    )
    releases_kept: Annotated[int, Field(ge=1)] = Field(
        default=5,
        description="Retired releases that can still be rolled back to.",
        json_schema_extra={"unit": "releases"},
    )
    cron: str = Field(
        default="7 * * * *",
        description="When the sources are taken in by the clock.",
        json_schema_extra={"unit": "cron"},
    )
    sensor_interval: Annotated[int, Field(ge=5)] = Field(
        default=30,
        description="How often the sources are looked at for changes.",
        json_schema_extra={"unit": "seconds"},
    )
