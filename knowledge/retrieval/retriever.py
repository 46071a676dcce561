"""A question -> evidence from the live release: dense and lexical search in one call, fused, with a confidence."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any

import httpx
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.conversions.common_types import QueryResponse
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

from knowledge.models.fusion import DEFAULT_WEIGHT, Judged, fuse
from knowledge.models.lexical import SparseVector, tokenize
from knowledge.models.questions import is_identifier, question_tokens
from knowledge.passages.placed import PlacedPassage
from knowledge.releases.collection import live_from, reason, release_filter
from knowledge.releases.vector_store import DENSE, LEXICAL, Live
from knowledge.retrieval.confidence import Question
from zhiyun.settings import RetrievalSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from knowledge.models.retrieval_model import RetrievalModel

_BESIDE = 0.5  # of the threshold, for evidence beside evidence that passes it
_FRESH = 1.0  # seconds that the live state is believed
ALIAS = "knowledge"


class NoLiveRelease(RuntimeError):
    """Nothing has been published yet."""


class VectorStoreDown(RuntimeError):
    """The vector store did not answer a question. One sentence that names QDRANT_URL."""


class _Gone(VectorStoreDown):
    """The collection is not there (any more)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence(PlacedPassage):
    """A passage of the live release; `score` is the confidence that it answers the question, 0 to 1."""

    passage_id: str
    document_id: str
    score: float


@dataclass(frozen=True, slots=True)
class Retrieved:
    """Evidence, best first; `best_score` is the best confidence, also when it was too low; `stages` are seconds."""

    release: int
    evidence: tuple[Evidence, ...]
    best_score: float
    stages: dict[str, float]


@dataclass(frozen=True, slots=True)
class LiveState(Live):
    """What the vector store says is live, with what a question needs: the model's fingerprint and the halves' weight."""

    fingerprint: str
    weight: float


@dataclass(frozen=True, slots=True)
class Found:
    """What both halves of the search brought: score of each point, and the points' payloads."""

    lexical: Mapping[str, float]
    dense: Mapping[str, float]
    payloads: Mapping[str, Mapping[str, Any]]


def requests(
    dense: NDArray[np.float32], lexical: SparseVector, release: int, candidates: int
) -> list[models.QueryRequest]:
    """The two searches of a question in one release, lexical first, for one call of `query_batch_points`."""
    condition = release_filter(release)
    sparse = models.SparseVector(indices=lexical.indices, values=lexical.values)
    return [
        models.QueryRequest(query=sparse, using=LEXICAL, filter=condition, limit=candidates, with_payload=True),
        models.QueryRequest(query=dense.tolist(), using=DENSE, filter=condition, limit=candidates, with_payload=True),
    ]


def searches(model: RetrievalModel, question: str, release: int, candidates: int) -> list[models.QueryRequest]:
    """`requests` for a question as a customer asks it."""
    lexical = model.bm25.query(question_tokens(question))
    return requests(model.embedder.embed_query(question), lexical, release, candidates)


def gathered(responses: Sequence[QueryResponse]) -> Found:
    """The answers to `requests`."""
    lexical = responses[0].points
    dense = responses[1].points
    return Found(
        {str(point.id): point.score for point in lexical},
        {str(point.id): point.score for point in dense},
        {str(point.id): point.payload or {} for point in [*lexical, *dense]},
    )


def judged(found: Found, question: str, wanted: Iterable[str]) -> Judged:
    """What was found for a golden question, to be measured; `wanted` are the uris of the documents that answer it."""
    documents = {name: str(payload["uri"]) for name, payload in found.payloads.items()}
    return Judged(found.lexical, found.dense, documents, frozenset(wanted), is_identifier(question))


class Retriever:
    """Finds evidence in whatever release is live. One for each process; it may be used from many tasks at once.

    `load_model` gives the model with a fingerprint; it is called in a thread, once for each fingerprint.
    """

    def __init__(
        self,
        client: AsyncQdrantClient,
        settings: RetrievalSettings,
        load_model: Callable[[str], RetrievalModel],
        *,
        alias: str = ALIAS,
    ) -> None:
        self._client = client
        self._settings = settings
        self._load_model = load_model
        self._alias = alias
        self._state: LiveState | None = None
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()
        self._loading = asyncio.Lock()
        self._model: RetrievalModel | None = None
        self._served: LiveState | None = None  # the last state whose model is loaded
        self._swap: asyncio.Task[None] | None = None

    async def retrieve(self, question: str, *, limit: int | None = None, threshold: float | None = None) -> Retrieved:
        """Evidence for a question, best first; none when no passage has a confidence of at least `threshold`.

        Raises NoLiveRelease when nothing is published, VectorStoreDown, and what `load_model` raises.
        """
        state, model = await self._ready()
        if not tokenize(question):
            return Retrieved(state.release, (), 0.0, {})
        started = perf_counter()
        try:
            found, embedded = await self._find(state, model, question)
        except _Gone:  # the collection went between two calls: read the live state again, once
            self._read_at = float("-inf")
            state, model = await self._ready()
            found, embedded = await self._find(state, model, question)
        searched = perf_counter()
        scored = await asyncio.to_thread(ranked, found, question, model, state.weight, limit or self._settings.limit)
        threshold = self._settings.evidence_threshold if threshold is None else threshold
        best = max((item.score for item in scored), default=0.0)
        # The best passage decides whether there is evidence at all; those beside it may be less sure of themselves.
        kept = [item for item in scored if item.score >= _BESIDE * threshold] if best >= threshold else []
        return Retrieved(
            state.release,
            tuple(kept),
            best,
            {"embed": embedded, "search": searched - started - embedded, "rank": perf_counter() - searched},
        )

    async def state(self) -> LiveState | None:
        """What is live, None when nothing is. Raises VectorStoreDown. For health: it always asks."""
        return await self._read_state()

    async def _find(self, state: LiveState, model: RetrievalModel, question: str) -> tuple[Found, float]:
        """What both halves bring, and the seconds that embedding took."""
        started = perf_counter()
        dense = await asyncio.to_thread(model.embedder.embed_query, question)
        embedded = perf_counter() - started
        wanted = requests(dense, model.bm25.query(question_tokens(question)), state.release, self._settings.candidates)
        try:
            return gathered(await self._client.query_batch_points(state.collection, wanted)), embedded
        except UnexpectedResponse as error:
            if error.status_code == 404:
                raise _Gone(str(_down(error))) from error
            raise _down(error) from error
        except (ApiException, ResponseHandlingException, httpx.HTTPError) as error:
            raise _down(error) from error

    async def _ready(self) -> tuple[LiveState, RetrievalModel]:
        """The state to answer from and its model. While another model is being loaded, the one before goes on."""
        state = await self._current()
        if self._model is not None and self._model.fingerprint == state.fingerprint:
            self._served = state
            return state, self._model
        if self._model is not None and self._served is not None:
            if self._swap is None or self._swap.done():
                self._swap = asyncio.create_task(self._load(state))
            return self._served, self._model
        await self._load(state)
        assert self._model is not None
        return state, self._model

    async def _load(self, state: LiveState) -> None:
        async with self._loading:
            if self._model is None or self._model.fingerprint != state.fingerprint:
                self._model = await asyncio.to_thread(self._load_model, state.fingerprint)
            self._served = state

    async def _current(self) -> LiveState:
        async with self._reading:
            if monotonic() - self._read_at < _FRESH and self._state is not None:
                return self._state
            try:
                state = await self._read_state()
            except VectorStoreDown:
                if self._state is None:
                    raise
                return self._state  # stale, but the search itself will tell whether the store is back
            if state is None:
                self._state = None
                raise NoLiveRelease("The knowledge base has no published release yet; run the ingestion job once.")
            self._state, self._read_at = state, monotonic()
            return state

    async def _read_state(self) -> LiveState | None:
        try:
            info = await self._client.get_collection(self._alias)
        except UnexpectedResponse as error:
            if error.status_code == 404:
                return None
            raise _down(error) from error
        except (ApiException, ResponseHandlingException, httpx.HTTPError) as error:
            raise _down(error) from error
        metadata = info.config.metadata or {}
        live = live_from(metadata)
        if live is None:
            return None
        return LiveState(live.collection, live.release, str(metadata["fingerprint"]), float(metadata["fusion_weight"]))


def ranked(found: Found, question: str, model: RetrievalModel, weight: float, limit: int) -> list[Evidence]:
    """The best `limit` of what was found, best first, each with its confidence (about half a millisecond each)."""
    asked = Question(question, model.lexicon, model.cosines)
    least = min(found.dense.values(), default=0.0)  # what the dense half did not bring is no nearer than that
    order = fuse(
        found.lexical, found.dense, 0.0 if is_identifier(question) else _weight(found, question, model, weight)
    )
    return [_evidence(name, found.payloads[name], asked, found.dense.get(name, least)) for name, _ in order[:limit]]


def _weight(found: Found, question: str, model: RetrievalModel, weight: float) -> float:
    """The dense half's weight for this question: at most DEFAULT_WEIGHT when the best passages by words have a word of
    it that came into the corpus after the model was made, and that the dense half may therefore not know."""
    if weight <= DEFAULT_WEIGHT:
        return weight
    tokens = list(question_tokens(question))
    fresh = {token for token, count in zip(tokens, model.lexicon.counts_of(tokens), strict=True) if not count}
    best = heapq.nlargest(3, found.lexical, key=found.lexical.__getitem__) if fresh else []
    return DEFAULT_WEIGHT if any(fresh & set(tokenize(_indexed(found.payloads[name]))) for name in best) else weight


def _indexed(payload: Mapping[str, Any]) -> str:
    return "\n".join(
        (str(payload.get("title", "")), *map(str, payload.get("heading") or ()), str(payload.get("text", "")))
    )


def _evidence(name: str, payload: Mapping[str, Any], asked: Question, cosine: float) -> Evidence:
    heading = tuple(str(part) for part in payload.get("heading") or ())
    return Evidence(
        passage_id=str(payload.get("passage_id", name)),
        document_id=str(payload.get("document_id", "")),
        uri=str(payload.get("uri", "")),
        source=str(payload.get("source", "")),
        path=str(payload.get("path", "")),
        title=str(payload.get("title", "")),
        heading=heading,
        text=str(payload.get("text", "")),
        start=int(payload.get("start", 0)),
        end=int(payload.get("end", 0)),
        score=asked.confidence(_indexed(payload), cosine),
    )


def _down(error: Exception) -> VectorStoreDown:
    return VectorStoreDown(f"The vector store at QDRANT_URL did not answer the search ({reason(error)}).")
