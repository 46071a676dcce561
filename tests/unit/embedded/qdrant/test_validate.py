"""No request, however it is made, can hand the vector store's engine what it cannot read back."""

import asyncio
import random
import shutil
import struct
import uuid
from array import array
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from embedded.qdrant.errors import ApiError
from embedded.qdrant.requests.formula import to_formula
from embedded.qdrant.requests.operations import from_batch
from embedded.qdrant.requests.queries import Query, QueryBody
from embedded.qdrant.requests.results import short_floats
from embedded.qdrant.settings import validate
from embedded.qdrant.settings.config import CollectionConfig, SparseParams, VectorParams
from embedded.qdrant.settings.convert import to_filter, to_payload_selector
from embedded.qdrant.settings.schema import CreateCollection
from embedded.qdrant.shards.collection import Collection, CollectionRecord, create_shard

CONFIG = CollectionConfig(
    vectors={"dense": VectorParams(2, "Cosine"), "": VectorParams(1, "Dot")},
    sparse={"lexical": SparseParams()},
)

UNOPENED = Collection("unopened", Path("nowhere"), CollectionRecord("unopened", CONFIG), 0)
QUERIES = ("nearest", "recommend", "discover", "context", "relevance_feedback", "fusion", "rrf", "order_by", "sample")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


# --- ids and names --------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, 1, 2**64 - 1])
def test_integers_of_64_bits_are_ids(value: int) -> None:
    assert validate.point_id(value) == value


def test_a_uuid_is_the_same_id_in_every_spelling() -> None:
    wanted = str(uuid.UUID(int=255))
    spellings = [wanted, wanted.upper(), wanted.replace("-", ""), f"urn:uuid:{wanted}", f"{{{wanted}}}"]
    assert {validate.point_id(spelling) for spelling in spellings} == {wanted}


@pytest.mark.parametrize("value", [-1, 2**64, 1.0, True, None, "", "passage-1", [1], {}])
def test_nothing_else_is_an_id(value: Any) -> None:
    with pytest.raises(ApiError, match="point id"):
        validate.point_id(value)


@pytest.mark.parametrize("name", ["", "a/b", "a\\b", "a:b", "a\0b", "x" * 256])
def test_names_that_no_collection_can_have(name: str) -> None:
    with pytest.raises(ApiError):
        validate.collection_name(name)


def test_names_in_chinese_are_names() -> None:
    assert validate.collection_name("知识库 2026") == "知识库 2026"


# --- vectors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("dense", [1.0], "expected dim: 2, got 1"),
        ("dense", [1.0, 2.0, 3.0], "expected dim: 2, got 3"),
        ("dense", [], "must not be empty"),
        ("dense", [1.0, 1e39], "finite 32-bit"),
        ("dense", [1.0, "2"], "finite 32-bit"),
        ("dense", [[1.0, 2.0]], "not a list of lists"),
        ("dense", {"indices": [1], "values": [1.0]}, "dense"),
        ("dense", "abc", "dense"),
        ("lexical", [1.0], "sparse"),
        ("lexical", {"indices": [1, 2], "values": [1.0]}, "same length as indices"),
        ("lexical", {"indices": [], "values": [1.0]}, "same length as indices"),
        ("lexical", {"indices": [3, 3], "values": [1.0, 1.0]}, "must be unique"),
        ("lexical", {"indices": [-3], "values": [1.0]}, "32-bit"),
        ("lexical", {"indices": [2**32], "values": [1.0]}, "32-bit"),
        ("lexical", {"indices": [1], "values": [-1e39]}, "finite 32-bit"),
        ("lexical", {"indices": [1]}, "needs `indices` and `values`"),
        ("lexical", {"indices": [1], "values": [1.0], "more": 1}, "more"),
        ("nowhere", [1.0], "Not existing vector name"),
    ],
)
def test_a_vector_that_does_not_fit_is_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(ApiError, match=message):
        validate.vector(CONFIG, name, value)


def test_sparse_vectors_are_put_in_order() -> None:
    vector: Any = validate.vector(CONFIG, "lexical", {"indices": [9, 2, 5], "values": [9.0, 2.0, 5.0]})
    assert (vector.indices, vector.values) == ([2, 5, 9], [2.0, 5.0, 9.0])


def test_a_query_without_a_name_means_the_default_vector() -> None:
    named = CollectionConfig(vectors={"dense": VectorParams(2, "Cosine")})
    assert validate.vector_name(CONFIG, None) == ""
    with pytest.raises(ApiError, match="Not existing vector name"):
        validate.vector_name(named, None)


# --- payload and filters --------------------------------------------------------------------------


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"a": [value]} if levels % 2 else {"a": value}
    return value


def test_payload_is_nested_so_deep_and_no_deeper() -> None:
    assert validate.payload(nested(64))
    with pytest.raises(ApiError, match="64 levels"):
        validate.payload(nested(66))
    with pytest.raises(ApiError, match="64 levels"):
        validate.payload({"a": 1}, under=".".join(["a"] * 64))


@pytest.mark.parametrize(
    "value",
    [
        "a",
        [],
        {"must": "a"},
        {"mustt": []},
        {"must": [{"key": "a"}]},
        {"must": [{"key": "a", "match": {}}]},
        {"must": [{"key": "a", "match": {"value": 1, "text": "b"}}]},
        {"must": [{"key": "a", "match": {"value": None}}]},
        {"must": [{"key": "a", "match": {"any": [1, "a"]}}]},
        {"must": [{"key": "a", "match": {"any": [True]}}]},
        {"must": [{"key": "a", "range": {"gt": [1]}}]},
        {"must": [{"key": "a", "range": {"above": 1}}]},
        {"must": [{"key": "a", "range": {"gt": 1, "lt": "2026-01-01"}}]},
        {"must": [{"key": 1, "match": {"value": 1}}]},
        {"must": [{"key": "a", "geo_radius": {"center": {"lon": 1}, "radius": 1}}]},
        {"must": [{"has_id": ["x"]}]},
        {"must": [{"has_vector": "nowhere"}]},
        {"must": [{"nested": {"key": "a"}}]},
        {"must": [{"sounds_like": "a"}]},
        {"min_should": {"conditions": []}},
    ],
)
def test_a_filter_of_the_wrong_shape_is_refused(value: Any) -> None:
    with pytest.raises(ApiError):
        to_filter(value, CONFIG)


def test_filters_are_nested_so_deep_and_no_deeper() -> None:
    def deep(levels: int) -> dict[str, Any]:
        value: dict[str, Any] = {"must": []}
        for _ in range(levels):
            value = {"must": value}
        return value

    assert to_filter(deep(30), CONFIG)
    for levels in (40, 900):
        with pytest.raises(ApiError, match="32 levels"):
            to_filter(deep(levels), CONFIG)


@given(value=json_values)
def test_any_json_is_converted_or_refused(value: Any) -> None:
    attempts = (
        lambda: validate.point_id(value),
        lambda: validate.vector(CONFIG, "dense", value),
        lambda: validate.vector(CONFIG, "lexical", value),
        lambda: to_filter(value, CONFIG),
        lambda: to_filter({"must": value}, CONFIG),
        lambda: to_filter({"must": [{"key": "a", "match": value}]}, CONFIG),
        lambda: to_payload_selector(value, default=True),
        lambda: to_formula({"formula": value}, CONFIG),
        lambda: Query(QueryBody(query=value), UNOPENED, lambda _name: UNOPENED),
        *(partial(Query, QueryBody(query={kind: value}), UNOPENED, lambda _name: UNOPENED) for kind in QUERIES),
    )
    for attempt in attempts:
        try:
            attempt()
        except (ApiError, ValueError, TypeError):
            # The engine's own classes refuse bad paths and large numbers as ValueError or TypeError;
            # `guarded` makes them a 400. Anything else would be a 500.
            continue


# --- what comes back ------------------------------------------------------------------------------


@given(values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_short_numbers_are_the_same_numbers(values: list[float]) -> None:
    assert array("f", short_floats(values)).tolist() == values


def test_numbers_are_printed_as_they_were_written() -> None:
    written = [0.9, 0.1, 1e-7, 3.0, 0.30000004, 123456.79]
    assert short_floats([struct.unpack("f", struct.pack("f", value))[0] for value in written]) == written


# --- the promise itself ---------------------------------------------------------------------------


def junk_operation(chance: random.Random) -> dict[str, Any]:
    """An operation of which something is likely to be wrong."""
    numbers = [0, 1, -1, 0.5, 1e39, 2**64, 2**63, "1", None, True]
    ids = [0, 1, 2, str(uuid.UUID(int=1)), -1, "x", 2**64]

    def some(values: list[Any], most: int) -> list[Any]:
        return [chance.choice(values) for _ in range(chance.randrange(most))]

    def vector() -> Any:
        return chance.choice(
            [
                [1.0, 2.0],
                some(numbers, 4),
                {"indices": some(numbers, 4), "values": some(numbers, 4)},
                {"indices": [5, 3], "values": [1.0, 2.0]},
                {"indices": [5, 3], "values": [1.0]},
                [[1.0, 2.0]],
                "x",
            ]
        )

    def payload() -> Any:
        return chance.choice([{"a": chance.choice(numbers)}, nested(chance.randrange(1, 200)), {}, {"": 1}, [], None])

    def vectors() -> Any:
        return chance.choice([{chance.choice(["dense", "lexical", "", "nowhere"]): vector()}, {}, vector()])

    point = {"id": chance.choice(ids), "vector": vectors(), "payload": payload()}
    selector = chance.choice([{"points": some(ids, 3)}, {"filter": {"must": [{"key": "a", "match": {"value": 1}}]}}])
    key = chance.choice([None, "a", "a.b[0].c", "a[", ".".join(["k"] * 200)])
    return chance.choice(
        [
            {"upsert": {"points": [point]}},
            {"upsert": {"points": [point, {"id": 1, "vector": {"dense": [1.0, 0.0]}}]}},
            {"upsert": {"batch": {"ids": some(ids, 3), "vectors": {"dense": [[1.0, 2.0]]}}}},
            {"update_vectors": {"points": [{"id": 1, "vector": vectors()}]}},
            {"set_payload": {"payload": payload(), "key": key, **selector}},
            {"overwrite_payload": {"payload": payload(), "key": key, **selector}},
            {"delete_payload": {"keys": ["a", key or "b"], **selector}},
            {"clear_payload": selector},
            {"delete": selector},
            {"delete_vectors": {"vector": ["dense", chance.choice(["lexical", "nowhere"])], **selector}},
        ]
    )


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32))
@example(seed=135)
def test_whatever_was_sent_the_collection_can_be_loaded_again(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    place = tmp_path_factory.mktemp("junk")
    config = msgspec.convert(
        {
            "vectors": {"dense": {"size": 2, "distance": "Cosine"}},
            "sparse_vectors": {"lexical": {"modifier": "idf"}},
        },
        CreateCollection,
    ).config()
    create_shard(place / "c", config)
    collection = Collection("c", place / "c", CollectionRecord("c", config), reserve=0)
    collection.open()
    chance = random.Random(seed)
    accepted, refusals = 0, set()
    for _ in range(150):
        raw = {kind: msgspec.Raw(msgspec.json.encode(body)) for kind, body in junk_operation(chance).items()}
        try:
            asyncio.run(from_batch(raw).prepared(collection.config).apply(collection))
            accepted += 1
        except ApiError as refused:
            refusals.add(refused.status)
    assert accepted
    assert refusals <= {400, 404, 422}
    held = {str(point.id): point.payload for point in everything(collection)}
    # What a kill leaves: the files as they are, without a flush.
    shutil.copytree(place / "c", place / "after")
    collection.close()
    after = Collection("after", place / "after", CollectionRecord("after", config), reserve=0)
    after.open()
    assert after.unreadable is None
    assert {str(point.id): point.payload for point in everything(after)} == held
    after.close()
    shutil.rmtree(place)


def everything(collection: Collection) -> list[Any]:
    import qdrant_edge as edge

    request = edge.ScrollRequest(limit=10_000, with_payload=True, with_vector=True)
    return collection.read(lambda shard: shard.scroll(request))[0]


def test_the_engine_without_these_checks_would_lose_the_collection(tmp_path: Path) -> None:
    """Why all of this is needed; when this fails, the engine has become safer and a check may go."""
    import qdrant_edge as edge

    create_shard(tmp_path / "c", CONFIG)
    collection = Collection("c", tmp_path / "c", CollectionRecord("c", CONFIG), reserve=0)
    collection.open()
    bad = edge.Point(1, {"lexical": edge.SparseVector([1, 2], [1.0])})
    with pytest.raises(ApiError, match="takes no more writes"):
        asyncio.run(collection.update(edge.UpdateOperation.upsert_points([bad])))
    with pytest.raises(ApiError, match="takes no more writes"):
        asyncio.run(collection.update(edge.UpdateOperation.delete_points([1])))
    shutil.copytree(tmp_path / "c", tmp_path / "after")
    after = Collection("after", tmp_path / "after", CollectionRecord("after", CONFIG), reserve=0)
    after.open()
    assert after.unreadable
    collection.close()
