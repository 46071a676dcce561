"""Queries: nearest, fused, scored by a formula, many at once."""

from __future__ import annotations

import uuid

import pytest
from qdrant_client import QdrantClient, models

from tests.support.vectors.release_passages import dense, in_release, lexical, numbers


def test_a_batch_of_queries_answers_each_as_if_alone(client: QdrantClient, knowledge: str) -> None:
    requests = [
        models.QueryRequest(query=dense(7), using="dense", filter=in_release(1), limit=5, with_payload=True),
        models.QueryRequest(
            query=lexical(7, 5007), using="lexical", filter=in_release(1), limit=3, with_payload=["number"]
        ),
    ]
    by_dense, by_words = client.query_batch_points(knowledge, requests)
    assert len(by_dense.points) == 5
    assert len(by_words.points) == 3
    assert numbers(by_dense.points)[0] == numbers(by_words.points)[0] == 7
    assert set(by_words.points[0].payload or {}) == {"number"}
    alone = client.query_points(
        knowledge, query=dense(7), using="dense", query_filter=in_release(1), limit=5, with_payload=True
    )
    assert alone.points == by_dense.points


@pytest.mark.parametrize(
    "fusion",
    [
        models.FusionQuery(fusion=models.Fusion.RRF),
        models.FusionQuery(fusion=models.Fusion.DBSF),
        models.RrfQuery(rrf=models.Rrf(k=60, weights=[2.0, 1.0])),
    ],
)
def test_dense_and_sparse_are_fused(client: QdrantClient, knowledge: str, fusion: models.Query) -> None:
    found = client.query_points(
        knowledge,
        prefetch=[
            models.Prefetch(query=dense(300), using="dense", filter=in_release(2), limit=20),
            models.Prefetch(query=lexical(300, 5300), using="lexical", filter=in_release(2), limit=20),
        ],
        query=fusion,
        limit=10,
        with_payload=True,
    ).points
    assert len(found) == 10
    assert numbers(found)[0] == 300
    assert [point.score for point in found] == sorted((point.score for point in found), reverse=True)


def test_rrf_scores_are_those_of_the_manual(client: QdrantClient, knowledge: str) -> None:
    """First in both lists: 1/(k+0) twice, k = 2."""
    lists = [
        models.Prefetch(query=dense(300), using="dense", limit=20),
        models.Prefetch(query=lexical(300, 5300), using="lexical", limit=20),
    ]
    fusion = models.FusionQuery(fusion=models.Fusion.RRF)
    assert client.query_points(knowledge, prefetch=lists, query=fusion).points[0].score == pytest.approx(1.0)


def test_a_formula_scores_what_a_prefetch_found(client: QdrantClient, knowledge: str) -> None:
    release_2 = models.FieldCondition(key="added_in", match=models.MatchValue(value=2))
    found = client.query_points(
        knowledge,
        prefetch=models.Prefetch(query=dense(300), using="dense", limit=50),
        query=models.FormulaQuery(
            formula=models.SumExpression(
                sum=[
                    "$score",
                    models.MultExpression(mult=[10.0, release_2]),
                    models.DivExpression(div=models.DivParams(left="missing", right=2.0, by_zero_default=0.0)),
                ]
            ),
            defaults={"missing": 4.0},
        ),
        limit=50,
        with_payload=True,
    ).points
    boosted = [point.score > 10 for point in found]
    assert boosted == sorted(boosted, reverse=True)
    assert [number >= 800 for number in numbers(found)] == boosted
    assert any(point.payload and point.payload["number"] == 300 for point in found)


def test_a_point_is_not_like_itself(client: QdrantClient, knowledge: str) -> None:
    wanted = str(uuid.UUID(int=12))
    found = client.query_points(knowledge, query=wanted, using="dense", limit=5).points
    assert len(found) == 5
    assert wanted not in [point.id for point in found]


def test_a_threshold_cuts_and_an_offset_skips(client: QdrantClient, knowledge: str) -> None:
    close = client.query_points(
        knowledge, query=dense(12), using="dense", score_threshold=0.9, with_payload=False
    ).points
    assert [point.id for point in close] == [str(uuid.UUID(int=12))]
    assert close[0].payload is None
    after = client.query_points(knowledge, query=dense(12), using="dense", offset=1, limit=3).points
    assert str(uuid.UUID(int=12)) not in [point.id for point in after]
