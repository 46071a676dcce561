"""Filters, and what is counted by them."""

from __future__ import annotations

import uuid

from qdrant_client import QdrantClient, models

from tests.support.vectors.release_passages import FOREVER, create_knowledge, dense, in_release, lexical, numbers


def test_a_release_sees_its_own_passages_only(client: QdrantClient, knowledge: str) -> None:
    assert client.count(knowledge, exact=True).count == 1000
    assert client.count(knowledge, count_filter=in_release(1), exact=True).count == 800
    assert client.count(knowledge, count_filter=in_release(2), exact=True).count == 900
    for using, query in (("dense", dense(50)), ("lexical", lexical(50, 5050))):
        first = client.query_points(
            knowledge, query=query, using=using, query_filter=in_release(1), with_payload=True
        ).points
        second = client.query_points(
            knowledge, query=query, using=using, query_filter=in_release(2), with_payload=True
        ).points
        assert numbers(first)[0] == 50
        assert 50 not in numbers(second)


def test_filters_of_every_clause(client: QdrantClient, knowledge: str) -> None:
    def document(number: int) -> models.FieldCondition:
        return models.FieldCondition(key="document_id", match=models.MatchValue(value=f"doc-{number}"))

    one, other = document(1), document(2)
    counted = {
        100: models.Filter(must=[one]),
        200: models.Filter(should=[one, other]),
        800: models.Filter(must_not=[one, other]),
        0: models.Filter(must=[one, other]),
        2: models.Filter(must=[models.HasIdCondition(has_id=[str(uuid.UUID(int=n)) for n in (3, 4)])]),
        90: models.Filter(must=[models.Filter(should=[one]), in_release(2)]),
        1000: models.Filter(
            min_should=models.MinShould(
                conditions=[models.HasVectorCondition(has_vector="dense"), one, other], min_count=1
            )
        ),
    }
    for expected, wanted in counted.items():
        assert client.count(knowledge, count_filter=wanted).count == expected


def test_facets_count_documents(client: QdrantClient, knowledge: str) -> None:
    hits = client.facet(knowledge, "document_id", limit=20, exact=True, facet_filter=in_release(1)).hits
    assert {hit.value: hit.count for hit in hits} == {f"doc-{number}": 80 for number in range(10)}


def test_rarity_of_words_can_be_counted_in_one_release(client: QdrantClient, name: str) -> None:
    """The filter of a query does not change IDF; `params.idf.corpus` does."""
    create_knowledge(client, name)
    word = models.SparseVector(indices=[1], values=[1.0])
    client.upsert(
        name,
        [
            models.PointStruct(
                id=number,
                vector={"dense": dense(number), "lexical": word if number < 60 else lexical(number)},
                payload={"added_in": 2 if 0 < number < 60 else 1, "removed_in": FOREVER},
            )
            for number in range(100)
        ],
        wait=True,
    )

    def score(params: models.SearchParams | None) -> float:
        found = client.query_points(
            name, query=word, using="lexical", query_filter=in_release(1), limit=1, search_params=params
        )
        return found.points[0].score

    among_all = score(None)
    in_one = score(models.SearchParams(idf=models.IdfCorpusParams(corpus=in_release(1))))
    assert among_all < 1.0
    assert in_one > 3.0
