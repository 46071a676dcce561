"""Requests to the vector store that no client would send: valid ones of every route, with something broken in them."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tests.support.vectors.valid_requests import SHAPES


@dataclass(frozen=True)
class Rubbish:
    """A request; `path` has `{c}` where the collection's name goes."""

    method: str
    path: str
    query: str
    body: bytes

    def __repr__(self) -> str:
        return f"{self.method} {self.path}?{self.query} {self.body[:3000]!r}"


_VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    1,
    2**31,
    2**32,
    2**53,
    2**63,
    2**64 - 1,
    2**64,
    10**30,
    -(2**63) - 1,
    1.5,
    -0.0,
    1e39,
    1e308,
    5e-324,
    float("nan"),
    float("inf"),
    "",
    "a",
    "dense",
    "lexical",
    "many",
    "\x00",
    "\ud800",
    "a\udfffb",
    "../..",
    "x" * 5000,
    "a[",
    "a[].b.",
    "$score",
    "9999-99-99",
    "-1",
    [],
    [[]],
    [[[]]],
    [None],
    {},
    {"": {}},
    {"a": None},
    {"indices": [1, 1], "values": [1, 2]},
    {"indices": [2**32], "values": [1]},
    {"indices": [1], "values": []},
    {"must": []},
    [0.0, 0.0, 0.0, 0.0],
    [1.0, 2.0],
    [float("nan")] * 4,
    [3e38, 3e38, 3e38, 3e38],
    list(range(2000)),
]
_PATHS = [
    "%00",
    "%ff",
    "%2f",
    "..",
    "%2e%2e",
    "%25",
    "x" * 300,
    "%F0%9F%98%80",
    "0",
    "-1",
    "18446744073709551616",
    "%0a",
]
_PARAMETERS = ["wait=true", "wait=1", "wait", "ordering=strong", "ordering=x", "timeout=-1", "timeout=1", "timeout=x", "%ff=%00", "a=b&a=c", "wait=true&wait=false", "consistency=0", "priority=snapshot", "details_level=99999999999", "anonymize=x"]  # fmt: skip


def _places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value of a document, the document itself first."""
    found = [way]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += _places(item, (*way, key))
    return found


def _nested(depth: int, inner: Any) -> Any:
    for turn in range(depth):
        inner = [inner] if turn % 2 else {"must": inner}
    return inner


@st.composite
def _broken(draw: st.DrawFn, body: Any) -> Any:
    """The document with one thing wrong with it."""
    place = draw(st.sampled_from(_places(body)))
    if not place:
        return draw(st.sampled_from(_VALUES))
    body = copy.deepcopy(body)
    holder = body
    for key in place[:-1]:
        holder = holder[key]
    key = place[-1]
    kind = draw(
        st.sampled_from(["value", "value", "value", "gone", "extra", "twice", "empty", "wrapped", "deep", "any"])
    )
    if kind == "gone":
        del holder[key]
    elif kind == "extra" and isinstance(holder, dict):
        holder[draw(st.sampled_from(["extra", "", "key", "filter", "limit", "\ud800", "vector"]))] = holder[key]
    elif kind == "twice" and isinstance(holder, list):
        holder += [holder[key]] * draw(st.sampled_from([1, 2, 1000]))
    elif kind == "empty":
        holder[key] = type(holder[key])()
    elif kind == "wrapped":
        holder[key] = [holder[key]]
    elif kind == "deep":
        holder[key] = _nested(draw(st.sampled_from([10, 33, 65, 130, 400])), holder[key])
    elif kind == "any":
        holder[key] = draw(st.one_of(st.integers(), st.floats(), st.text(max_size=20)))
    else:
        holder[key] = draw(st.sampled_from(_VALUES))
    return body


@st.composite
def _bytes(draw: st.DrawFn, body: bytes) -> bytes:
    """What is not even JSON, or hardly."""
    kind = draw(st.sampled_from(["cut", "rubbish", "nothing", "deep", "twice", "invalid"]))
    if kind == "cut":
        return body[: draw(st.integers(0, len(body)))]
    if kind == "twice":
        return body + body
    if kind == "invalid":
        return body.replace(b'"', b'"\xff\xfe', draw(st.integers(1, 3)))
    given = {"rubbish": draw(st.binary(max_size=50)), "nothing": b"", "deep": b'{"must":[' * 20_000}
    return given[kind]


def wrong_types() -> Iterator[Rubbish]:
    """Every value of every route's body once, replaced by values of other types; what routes share is broken once."""
    done: set[str] = set()
    for method, path, body in SHAPES:
        route = path.replace("{made}", "made-1")
        for place in _places(body) if body is not None else []:
            value = _at(body, place)
            same = f"{method} {place[-2:]} {value!r}" if len(place) > 2 else f"{method} {path} {place}"
            if same in done:
                continue
            done.add(same)
            for wrong in ([], {}, [[1]], {"a": []}, "\ud800", -1, 1.5, True, None, float("nan"), 2**70):
                content = json.dumps(_replaced(body, place, wrong)).encode()
                yield Rubbish(method, route, "", content)


def _at(body: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        body = body[key]
    return body


def _replaced(body: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    body = copy.deepcopy(body)
    _at(body, place[:-1])[place[-1]] = value
    return body


@st.composite
def requests(draw: st.DrawFn) -> Rubbish:
    """A request to some route, with up to three things wrong with its body, and sometimes with its address."""
    method, path, body = draw(st.sampled_from(SHAPES))
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2, 3]))):
        body = draw(_broken(body)) if body is not None else draw(st.sampled_from([None, None, {}, []]))
    content = b"" if body is None else json.dumps(body).encode()
    if draw(st.integers(0, 9)) == 0:
        content = draw(_bytes(content))
    query = draw(st.sampled_from(["", "wait=true", "wait=true", draw(st.sampled_from(_PARAMETERS))]))
    if draw(st.integers(0, 9)) == 0 and "{made}" not in path:
        path = f"{path}/{draw(st.sampled_from(_PATHS))}".replace("//", "/")
        if draw(st.booleans()):
            path = path.replace(path.rsplit("/", 2)[1], draw(st.sampled_from(_PATHS)))
    name = draw(st.sampled_from(["made-1", "made-2", "made%2f3", "made-%F0%9F%98%80", "%00", "%20", "..", "x" * 300]))
    return Rubbish(method, path.replace("{made}", name), query, content)
