"""Many questions asked of one release, in few calls: for golden sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from knowledge.releases.collection import Collections
from knowledge.retrieval import retriever
from knowledge.retrieval.retriever import Found

if TYPE_CHECKING:
    from knowledge.models.retrieval_model import RetrievalModel

_QUESTIONS_AT_ONCE = 16


def found_for(
    collections: Collections,
    model: RetrievalModel,
    collection: str,
    release: int,
    questions: Sequence[str],
    candidates: int,
) -> Iterator[Found]:
    """What both halves of the search bring for each question, in the order of the questions.

    Raises VectorStoreUnavailable.
    """
    for start in range(0, len(questions), _QUESTIONS_AT_ONCE):
        part = questions[start : start + _QUESTIONS_AT_ONCE]
        requests = [
            request for question in part for request in retriever.searches(model, question, release, candidates)
        ]
        responses = collections.search(collection, requests)
        for place in range(len(part)):
            yield retriever.gathered(responses[2 * place : 2 * place + 2])
