"""What answers rest on, over HTTP: the hit test, and a passage in its place."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

import psycopg
import structlog
from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter
from msgspec import Meta, Struct
from qdrant_client import AsyncQdrantClient
from qdrant_client.http.exceptions import ApiException, UnexpectedResponse

from knowledge.releases.lineage import passage_source
from knowledge.retrieval.retriever import VectorStoreDown
from serving.chat.answering import Answering
from serving.chat.controller import checked
from serving.configuration import Configuration
from serving.database import Database, DatabaseDown
from serving.operations.fence import unfenced
from serving.problems import problem

_log = structlog.get_logger(__name__)

_AROUND = 4000  # characters of the document given on either side of a passage
_READ_SECONDS = 3.0
_GONE = "There is no such passage; it may have been deleted since it was cited."


class RetrievalRequest(Struct, frozen=True):
    """A question, to see what is found for it."""

    query: str
    limit: Annotated[int, Meta(ge=1, le=50)] = 10


class Hit(Struct, frozen=True):
    """A passage that was found."""

    passage_id: str
    document: str
    uri: str
    title: str
    heading: tuple[str, ...]
    text: str
    start: int
    end: int
    score: Annotated[float, Meta(description="Confidence, from 0 to 1.")]


class RetrievalResult(Struct, frozen=True):
    """What was found, best first."""

    release: int
    evidence: list[Hit]


class PassageView(Struct, frozen=True):
    """A passage with the text around it in its document."""

    passage_id: UUID
    uri: str
    title: str
    heading: tuple[str, ...]
    before: str
    text: str
    after: str
    start: Annotated[int, Meta(description="Where the passage starts in the document's text, in characters.")]
    end: int
    media_type: str
    document_sha256: str | None
    release: int | None
    origin: Annotated[
        Literal["catalogue", "vector store"],
        Meta(description="`vector store` while the database is away: then without what is around the passage."),
    ]


class EvidenceController(Controller):
    path = "/api"
    tags = ("evidence",)

    @post("/retrieval", status_code=200, guards=[unfenced], summary="The hit test: what is found for a question")
    async def retrieval(
        self,
        data: JSONBody[RetrievalRequest],
        answering: NamedDependency[Answering],
        configuration: NamedDependency[Configuration],
    ) -> RetrievalResult:
        """The passages that are found for a question, best first, those below the evidence threshold too."""
        query = checked(data.query, configuration.serving.max_message_chars, "query")
        found = await answering.retrieve(query, limit=data.limit, threshold=0.0)
        return RetrievalResult(
            release=found.release,
            evidence=[
                Hit(
                    passage_id=item.passage_id,
                    document=item.document_id,
                    uri=item.uri,
                    title=item.title,
                    heading=tuple(item.heading),
                    text=item.text,
                    start=item.start,
                    end=item.end,
                    score=item.score,
                )
                for item in found.evidence
            ],
        )

    @get("/passages/{passage_id:uuid}", summary="A passage in its document")
    async def passage(
        self,
        passage_id: FromPath[UUID],
        database: NamedDependency[Database],
        qdrant: NamedDependency[AsyncQdrantClient],
        configuration: NamedDependency[Configuration],
        release: Annotated[int | None, QueryParameter(ge=1, le=2_147_483_646)] = None,
    ) -> PassageView:
        """The passage behind a citation, with the text around it as it was in `release`."""
        if database.up:
            try:
                async with database.connection(_READ_SECONDS) as connection:
                    found = await passage_source(connection, passage_id, release=release, around=_AROUND)
                    if found is None and release is not None:
                        found = await passage_source(connection, passage_id, around=_AROUND)
            except DatabaseDown:
                pass
            except psycopg.Error as error:
                _log.warning("passage_not_read", error=type(error).__name__, sqlstate=error.sqlstate)
            else:
                if found is None:
                    raise problem(404, _GONE)
                return PassageView(
                    passage_id=passage_id,
                    uri=found.uri,
                    title=found.title,
                    heading=found.heading,
                    before=found.before,
                    text=found.text,
                    after=found.after,
                    start=found.start,
                    end=found.end,
                    media_type=found.media_type,
                    document_sha256=found.document_sha256,
                    release=release,
                    origin="catalogue",
                )
        payload = await _payload(qdrant, configuration.qdrant.collection, passage_id)
        if payload is None:
            raise problem(404, _GONE)
        return PassageView(
            passage_id=passage_id,
            uri=payload["uri"],
            title=payload["title"],
            heading=tuple(payload["heading"]),
            before="",
            text=payload["text"],
            after="",
            start=payload["start"],
            end=payload["end"],
            media_type="text/plain",
            document_sha256=None,
            release=release,
            origin="vector store",
        )


async def _payload(qdrant: AsyncQdrantClient, collection: str, passage_id: UUID) -> dict[str, Any] | None:
    """A passage as the vector store has it, None when it has none. Raises VectorStoreDown."""
    try:
        points = await qdrant.retrieve(collection, [str(passage_id)], with_payload=True)
    except UnexpectedResponse as error:
        if error.status_code == 404:
            return None
        raise VectorStoreDown("the vector store refused to give a passage") from error
    except ApiException as error:
        raise VectorStoreDown("the vector store does not answer") from error
    return points[0].payload if points else None
