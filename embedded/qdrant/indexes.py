"""Payload indexes: the schema of a field, read from the wire, put into the engine's form and printed back."""

from typing import Any

import qdrant_edge as edge

from embedded.qdrant.convert import fields, flag, integer, text
from embedded.qdrant.errors import bad_request, not_built
from embedded.qdrant.validate import shortened

Object = dict[str, Any]

_COMMON = {"on_disk": flag, "enable_hnsw": flag}
_PARAMS: dict[str, tuple[Any, Object]] = {
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
            "tokenizer": text,
            "min_token_len": integer,
            "max_token_len": integer,
            "lowercase": flag,
            "ascii_folding": flag,
            "phrase_matching": flag,
        },
    ),
}
_TOKENIZERS = {
    "prefix": edge.TokenizerType.Prefix,
    "whitespace": edge.TokenizerType.Whitespace,
    "word": edge.TokenizerType.Word,
    "multilingual": edge.TokenizerType.Multilingual,
}
# What Qdrant has and this server does not (yet).
_NOT_BUILT = ("memory", "nested", "stopwords", "stemmer", "scoring")


def to_schema(value: Any) -> Any:
    """The engine's parameters for a `field_schema`: a type's name, or an object with `type` and options."""
    given: Object = {"type": value} if isinstance(value, str) else dict(value) if isinstance(value, dict) else {}
    kind = given.pop("type", None)
    if kind not in _PARAMS:
        raise bad_request(f"`field_schema` is one of {', '.join(_PARAMS)}, or an object with such a `type`")
    for name in _NOT_BUILT:
        if given.pop(name, None) is not None:
            raise not_built(f"`{name}` of a payload index")
    params, allowed = _PARAMS[kind]
    options = {
        name: allowed[name](option, f"`{name}`")
        for name, option in fields(given, frozenset(allowed), f"a {kind} index").items()
    }
    if "tokenizer" in options:
        if options["tokenizer"] not in _TOKENIZERS:
            raise bad_request(f"there is no tokenizer {shortened(options['tokenizer'])}")
        options["tokenizer"] = _TOKENIZERS[options["tokenizer"]]
    # Links between points of one payload value double the time to build the graph; who wants them asks.
    return params(**{"enable_hnsw": False, **options})


def printed(schema: dict[str, Any]) -> Object:
    """The `payload_schema` part of Qdrant's collection info."""
    return {name: _printed(info) for name, info in schema.items()}


def _printed(info: Any) -> Object:
    kind = str(info.data_type).rpartition(".")[2].lower()
    shown: Object = {"data_type": kind, "points": info.points}
    if info.params is not None:
        _, allowed = _PARAMS[kind]
        params = {name: _plain(getattr(info.params, name, None)) for name in allowed}
        shown["params"] = {"type": kind} | {name: value for name, value in params.items() if value is not None}
    return shown


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int) else str(value).rpartition(".")[2].lower()
