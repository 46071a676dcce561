"""Payload indexes: the schema of a field, read from the wire, put into the engine's form and printed back."""

from collections.abc import Callable
from typing import Any

import qdrant_edge as edge

from embedded.qdrant.errors import bad_request, invalid
from embedded.qdrant.settings.convert import fields, flag, integer, text
from embedded.qdrant.settings.memory import MEMORY
from embedded.qdrant.settings.text_options import (
    printed_stemmer,
    printed_stopwords,
    scoring,
    stemmer,
    stopwords,
    tokenizer,
)
from embedded.qdrant.settings.validate import shortened

Object = dict[str, Any]
Option = Callable[[Any, str], Any]
"""Gives the engine's form of an option of an index; its second argument names the option in messages."""


def _memory(value: Any, what: str) -> edge.Memory:
    if value not in MEMORY:
        raise bad_request(f"{what} is one of {', '.join(MEMORY)}, not {shortened(value)}")
    return MEMORY[value]


_COMMON: dict[str, Option] = {"on_disk": flag, "enable_hnsw": flag, "memory": _memory, "nested": text}
_PARAMS: dict[str, tuple[Any, dict[str, Option]]] = {
    "keyword": (edge.KeywordIndexParams, {**_COMMON, "is_tenant": flag, "prefix": flag}),
    "integer": (edge.IntegerIndexParams, {**_COMMON, "lookup": flag, "range": flag, "is_principal": flag}),
    "float": (edge.FloatIndexParams, {**_COMMON, "is_principal": flag}),
    "bool": (edge.BoolIndexParams, _COMMON),
    "datetime": (edge.DatetimeIndexParams, {**_COMMON, "is_principal": flag}),
    "uuid": (edge.UuidIndexParams, {**_COMMON, "is_tenant": flag}),
    "geo": (edge.GeoIndexParams, _COMMON),
    "text": (
        edge.TextIndexParams,
        {
            **_COMMON,
            "tokenizer": tokenizer,
            "min_token_len": integer,
            "max_token_len": integer,
            "lowercase": flag,
            "ascii_folding": flag,
            "phrase_matching": flag,
            "stopwords": stopwords,
            "stemmer": stemmer,
            "scoring": scoring,
        },
    ),
}
# What Qdrant prints where an option was not given; it leaves out all others.
_DEFAULTS: dict[str, Object] = {
    "integer": {"lookup": None, "range": None, "is_principal": None},
    "float": {"is_principal": None},
    "datetime": {"is_principal": None},
    "text": {"tokenizer": "word"},
}


def to_schema(value: Any, field: str) -> Any:
    """The engine's parameters for a `field_schema`: a type's name, or an object with `type` and options.

    Raises ApiError. The engine complains of some options only when it has logged the operation.
    """
    given: Object = {"type": value} if isinstance(value, str) else dict(value) if isinstance(value, dict) else {}
    kind = given.pop("type", None)
    if not isinstance(kind, str) or kind not in _PARAMS:
        raise bad_request(f"`field_schema` is one of {', '.join(_PARAMS)}, or an object with such a `type`")
    params, allowed = _PARAMS[kind]
    options = {
        name: allowed[name](option, f"`{name}`")
        for name, option in fields(given, frozenset(allowed), f"a {kind} index").items()
    }
    if options.get("lookup") is False and options.get("range") is False:
        raise invalid("lookup: Validation error: the 'lookup' and 'range' capabilities can't be both disabled")
    if "nested" in options and not field.startswith(f"{options['nested'].removesuffix('[]')}[]."):
        raise bad_request(f"field `{field}` is not inside the elements of `{options['nested']}[]`")
    # Links between points of one payload value double the time to build the graph; who wants them asks.
    return params(**{"enable_hnsw": False, **options})


def kept(value: Any) -> Object | None:
    """The options of a `field_schema` that `to_schema` took, as Qdrant prints them; None if it has none."""
    if isinstance(value, str):
        return None
    given = {name: option for name, option in value.items() if option is not None}
    if "stopwords" in given:
        given["stopwords"] = printed_stopwords(given["stopwords"])
    if "stemmer" in given:
        given["stemmer"] = printed_stemmer(given["stemmer"])
    return {**_DEFAULTS.get(given["type"], {}), **given}


def printed(schema: dict[str, Any], options: dict[str, Object]) -> Object:
    """The `payload_schema` part of Qdrant's collection info; `options` are what `kept` gave for each field."""
    return {name: _printed(info, options.get(name)) for name, info in schema.items()}


def _printed(info: Any, options: Object | None) -> Object:
    kind = str(info.data_type).rpartition(".")[2].lower()
    shown: Object = {"data_type": kind, "points": info.points}
    return {**shown, "params": options} if options is not None and options["type"] == kind else shown
