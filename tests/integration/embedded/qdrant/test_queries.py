"""Queries beyond the nearest points: examples, contexts, other collections, groups, texts, distances."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.vectors.vector_store import ServerProcess

CITIES = {
    1: ([0.0, 1.0], "a", ["x", "y"]),
    2: ([1.0, 0.0], "a", ["x"]),
    3: ([0.9, 0.1], "b", ["y"]),
    4: ([0.1, 0.9], "b", [1.5]),
    5: ([0.7, 0.7], "c", []),
    6: ([-1.0, 0.0], 7, [{"not": "a group"}]),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with two collections, `main` and `other`, in which points 1 and 2 have changed places."""
    server = ServerProcess(tmp_path_factory.mktemp("queries")).wait_until_ready()
    base = f"{server.url}/collections"
    config = {
        "vectors": {"place": {"size": 2, "distance": "Dot"}},
        "sparse_vectors": {"words": {"modifier": "idf"}},
    }
    for name in ("main", "other"):
        httpx.put(f"{base}/{name}", json=config).raise_for_status()
    points: list[Any] = [
        {"id": number, "vector": {"place": place}, "payload": {"group": group, "tags": tags}}
        for number, (place, group, tags) in CITIES.items()
    ]
    put(base, "main", points)
    put(base, "other", [{"id": 1, "vector": {"place": [1.0, 0.0]}}, {"id": 2, "vector": {"place": [0.0, 1.0]}}])
    put(base, "other", [{"id": 7, "vector": {}, "payload": {"title": "seven"}}])
    yield base
    server.stop()


def put(base: str, name: str, points: list[Any]) -> None:
    httpx.put(f"{base}/{name}/points?wait=true", json={"points": points}).raise_for_status()


def ask(base: str, path: str = "query", **body: Any) -> Any:
    answer = httpx.post(f"{base}/main/points/{path}", json={"using": "place", **body})
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]


def ids(found: Any) -> list[int]:
    return [point["id"] for point in found["points"]]


def test_examples_are_averaged_and_are_not_their_own_answer(base: str) -> None:
    found = ask(base, query={"recommend": {"positive": [2], "negative": [1]}})
    assert ids(found)[0] == 3
    assert not {1, 2} & set(ids(found))
    same = ask(base, query=[2.0, -1.0], filter={"must_not": [{"has_id": [1, 2]}]})
    assert found == same


@pytest.mark.parametrize("strategy", ["best_score", "sum_scores"])
def test_examples_are_scored_one_by_one(base: str, strategy: str) -> None:
    query = {"recommend": {"positive": [[1.0, 0.0]], "negative": [1], "strategy": strategy}}
    assert ids(ask(base, query=query))[0] == 2


def test_an_id_may_be_of_another_collection(base: str) -> None:
    found = ask(base, query=1, lookup_from={"collection": "other"})
    assert ids(found)[0] == 2
    assert 1 in ids(found), "only points of the searched collection are excluded"


def test_points_are_found_on_the_right_side_of_pairs(base: str) -> None:
    pair = {"positive": 2, "negative": 1}
    assert ids(ask(base, query={"discover": {"target": [1.0, 1.0], "context": pair}}))[0] == 3
    scores = {point["id"]: point["score"] for point in ask(base, query={"context": [pair]})["points"]}
    assert scores[3] == 0
    assert scores[4] < 0


def test_the_better_example_pulls(base: str) -> None:
    feedback = [{"example": [1.0, 0.0], "score": 0.9}, {"example": [0.0, 1.0], "score": 0.1}]
    strategy = {"naive": {"a": 1.0, "b": 1.0, "c": 1.0}}
    query = {"relevance_feedback": {"target": [0.5, 0.5], "feedback": feedback, "strategy": strategy}}
    found = ids(ask(base, query=query))
    assert found.index(2) < found.index(1)


def test_a_prefetch_excludes_the_points_it_was_asked_with(base: str) -> None:
    found = ask(base, using=None, prefetch={"query": 2, "using": "place"}, query={"fusion": "rrf"})
    assert 2 not in ids(found)


def test_groups_are_ranked_by_their_best_point(base: str) -> None:
    groups = ask(base, "query/groups", query=[1.0, 0.0], group_by="group", group_size=1, with_lookup="other")["groups"]
    assert [(group["id"], group["hits"][0]["id"]) for group in groups] == [("a", 2), ("b", 3), ("c", 5), (7, 6)]
    assert [group.get("lookup", {}).get("payload") for group in groups] == [None, None, None, {"title": "seven"}]


def test_a_point_with_several_values_is_in_several_groups(base: str) -> None:
    groups = ask(base, "query/groups", query=[0.0, 1.0], group_by="tags", with_payload=["group"])["groups"]
    assert {group["id"]: [hit["id"] for hit in group["hits"]] for group in groups} == {"x": [1, 2], "y": [1, 3]}
    assert groups[0]["hits"][0]["payload"] == {"group": "a"}


def test_distances_within_a_sample(base: str) -> None:
    rows = ask(base, "search/matrix/pairs", sample=6, limit=1, filter={"must": {"has_id": [1, 2, 3]}})["pairs"]
    assert [(row["a"], row["b"]) for row in rows] == [(1, 3), (2, 3), (3, 2)]
    columns = ask(base, "search/matrix/offsets", sample=6, limit=1, filter={"must": {"has_id": [1, 2, 3]}})
    assert (columns["ids"], columns["offsets_row"], columns["offsets_col"]) == ([1, 2, 3], [0, 1, 2], [2, 2, 1])


def test_texts_are_embedded_on_both_sides(base: str) -> None:
    model = {"model": "qdrant/bm25"}
    texts = {21: "The parcel was lost in the warehouse", 22: "A refund takes five days", 23: "refunds and parcels"}
    put(base, "main", [{"id": n, "vector": {"words": {"text": text, **model}}} for n, text in texts.items()])
    assert set(ids(ask(base, query={"text": "my refund", **model}, using="words"))) == {22, 23}
    unstemmed = {"text": "refunds", "options": {"language": "none"}, **model}
    assert ids(ask(base, query={"nearest": unstemmed}, using="words")) == []


@pytest.mark.parametrize("using", ["place", "words"])
def test_results_can_be_made_to_differ(base: str, using: str) -> None:
    near: Any = [1.0, 0.05] if using == "place" else {"indices": [8, 9], "values": [1.0, 0.05]}
    if using == "words":
        rows = {31: [1.0, 0.0], 32: [0.99, 0.01], 33: [0.3, 0.9]}
        vectors = {n: {"words": {"indices": [8, 9], "values": row}} for n, row in rows.items()}
        put(base, "main", [{"id": n, "vector": vector} for n, vector in vectors.items()])
    found = ask(base, query={"nearest": near, "mmr": {"diversity": 0.9, "candidates_limit": 10}}, using=using, limit=2)
    nearest = ask(base, query=near, using=using, limit=2)
    assert ids(found)[0] == ids(nearest)[0]
    assert ids(found)[1] != ids(nearest)[1]
    assert "vector" not in found["points"][0]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"query": {"recommend": {}}}, 422),
        ({"query": {"recommend": {"negative": [1]}}}, 400),
        ({"query": {"relevance_feedback": {"target": 1, "feedback": [], "strategy": {"naive": {}}}}}, 422),
        ({"query": {"nearest": 1, "mmr": {"diversity": 2}}}, 422),
        ({"query": 1, "lookup_from": {"collection": "nowhere"}}, 404),
        ({"query": 1, "lookup_from": {"collection": "other", "vector": "nowhere"}}, 400),
        ({"query": 99, "lookup_from": {"collection": "other", "vector": "nowhere"}}, 404),
        ({"query": {"text": "a", "model": "another"}}, 501),
        ({"query": {"text": 1, "model": "bm25"}}, 400),
        ({"query": {"text": "a", "model": "bm25", "options": {"b": 2}}}, 400),
        ({"query": {"recommend": {"positive": [[]]}}}, 400),
        ({"query": 7, "lookup_from": {"collection": "other"}}, 404),
        ({"query": [1.0, 0.0], "params": {"hnsw_ef": 0}}, 422),
        ({"query": {"fusion": "rrf"}, "prefetch": [{"query": 1, "using": "place"}]}, 400),
        ({"prefetch": [{"query": 1, "using": "place"}]}, 400),
        ({"score_threshold": 1}, 400),
    ],
)
def test_what_makes_no_sense_is_refused(base: str, body: Any, status: int) -> None:
    answer = httpx.post(f"{base}/main/points/query", json={"using": "place", **body})
    assert answer.status_code == status, answer.text
    assert answer.json()["status"]["error"]
