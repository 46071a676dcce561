"""S3-compatible object stores."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings

from zhiyun.settings.fields import config, scheme


class S3Settings(BaseSettings):
    """S3-compatible object stores (MinIO and others), for places written `s3://bucket/prefix`."""

    model_config = config("S3_")

    endpoint_url: Annotated[str, scheme("http", "https")] = Field(
        default="", description="Its address, for example `https://minio.example:9000`. Empty: Amazon's."
    )
    region: str = Field(default="us-east-1", description="Its region.")
    access_key_id: str = Field(
        default="", description="Empty: what boto3 finds by itself.", json_schema_extra={"secret": True}
    )
    secret_access_key: str = Field(default="", description="Belongs to the former.", json_schema_extra={"secret": True})
    timeout: Annotated[float, Field(gt=0)] = Field(
        default=60, description="How long one answer may take.", json_schema_extra={"unit": "seconds"}
    )
    attempts: Annotated[int, Field(ge=1, le=20)] = Field(
        default=5, description="How often a call is tried.", json_schema_extra={"unit": "tries"}
    )
