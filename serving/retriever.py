"""The chat's retriever over the live release, whose model is loaded when it is first needed."""

from __future__ import annotations

from qdrant_client import AsyncQdrantClient

from knowledge import database
from knowledge.models import registry, retrieval_model
from knowledge.models.embedding import EmbeddingModelUnavailable
from knowledge.models.retrieval_model import RetrievalModel
from knowledge.retrieval.retriever import Retriever
from serving.chat.answering import ModelUnavailable, Retrieves
from serving.configuration import Configuration


def open_retriever(configuration: Configuration, qdrant: AsyncQdrantClient) -> Retrieves:
    """A retriever over the live collection. It raises ModelUnavailable too."""

    def load_model(fingerprint: str) -> RetrievalModel:
        folder = registry.models_dir() / fingerprint
        try:
            if folder.exists():
                return retrieval_model.load(folder)
            with database.connect(configuration.database) as connection:
                return registry.load_model(connection, fingerprint)
        except (
            OSError,
            EmbeddingModelUnavailable,
            database.DatabaseUnavailable,
            registry.ModelMissing,
        ) as error:
            raise ModelUnavailable(str(error)) from error

    return Retriever(qdrant, configuration.retrieval, load_model, alias=configuration.qdrant.collection)
