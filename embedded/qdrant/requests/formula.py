"""Formulas that score again what the prefetches found, from decoded JSON to the engine's expressions."""

from collections.abc import Callable, Mapping
from typing import Any

import qdrant_edge as edge

from embedded.qdrant.errors import bad_request
from embedded.qdrant.settings.config import CollectionConfig
from embedded.qdrant.settings.convert import fields, geo_point, number, text, to_condition
from embedded.qdrant.settings.validate import shortened

Object = dict[str, Any]
MAX_FORMULA_DEPTH = 32
_CONDITIONS = frozenset(
    {
        "key",
        "must",
        "should",
        "must_not",
        "min_should",
        "has_id",
        "is_empty",
        "is_null",
        "has_vector",
        "nested",
        "slice",
    }
)


def to_formula(given: Object, config: CollectionConfig) -> edge.Formula:
    """A `{formula, defaults}` query. `$score` names the prefetch's score, any other name a payload value."""
    defaults = given.get("defaults", {})
    if not isinstance(defaults, Mapping):
        raise bad_request("`defaults` is an object of values by name")
    return edge.Formula(_expression(given.get("formula"), config, 0), dict(defaults))


def _expression(value: Any, config: CollectionConfig, depth: int) -> Any:
    if depth > MAX_FORMULA_DEPTH:
        raise bad_request(f"a formula can be nested {MAX_FORMULA_DEPTH} levels deep")
    if type(value) is int or type(value) is float:
        return edge.Expression.Constant(float(value))
    if isinstance(value, str):
        return edge.Expression.Variable(value)
    if not isinstance(value, Mapping) or not value:
        raise bad_request(f"a formula is a number, a name or an object, not {shortened(value)}")
    if _CONDITIONS.intersection(value):
        return edge.Expression.Condition(to_condition(value, config))

    def inner(part: Any) -> Any:
        return _expression(part, config, depth + 1)

    kind, content = next(iter(value.items()))
    if len(value) != 1 or kind not in _KINDS:
        raise bad_request(f"there is no expression of this shape: {shortened(value)}")
    return _KINDS[kind](content, inner)


Inner = Callable[[Any], Any]
Build = Callable[[Any, Inner], Any]


def _of_one(build: Callable[[Any], Any]) -> Build:
    return lambda content, inner: build(inner(content))


def _of_many(build: Callable[[list[Any]], Any]) -> Build:
    def converted(content: Any, inner: Inner) -> Any:
        if not isinstance(content, list):
            raise bad_request(f"a list of expressions is wanted, not {shortened(content)}")
        return build([inner(part) for part in content])

    return converted


def _div(content: Any, inner: Inner) -> Any:
    given = fields(content, frozenset({"left", "right", "by_zero_default"}), "`div`")
    default = given.get("by_zero_default")
    default = None if default is None else number(default, "`div.by_zero_default`")
    return edge.Expression.Div(inner(given.get("left")), inner(given.get("right")), default)


def _pow(content: Any, inner: Inner) -> Any:
    given = fields(content, frozenset({"base", "exponent"}), "`pow`")
    return edge.Expression.Pow(inner(given.get("base")), inner(given.get("exponent")))


def _geo_distance(content: Any, _inner: Inner) -> Any:
    given = fields(content, frozenset({"origin", "to"}), "`geo_distance`")
    return edge.Expression.GeoDistance(geo_point(given.get("origin")), text(given.get("to"), "`geo_distance.to`"))


def _decay(kind: edge.DecayKind) -> Build:
    def converted(content: Any, inner: Inner) -> Any:
        given = fields(content, frozenset({"x", "target", "scale", "midpoint"}), "a decay")
        target = inner(given["target"]) if "target" in given else None
        scale = number(given["scale"], "`scale`") if "scale" in given else None
        midpoint = number(given["midpoint"], "`midpoint`") if "midpoint" in given else None
        return edge.Expression.Decay(kind, inner(given.get("x")), target, midpoint, scale)

    return converted


_KINDS: dict[str, Build] = {
    "mult": _of_many(edge.Expression.Mult),
    "sum": _of_many(edge.Expression.Sum),
    "max": _of_many(edge.Expression.Max),
    "min": _of_many(edge.Expression.Min),
    "neg": _of_one(edge.Expression.Neg),
    "abs": _of_one(edge.Expression.Abs),
    "sqrt": _of_one(edge.Expression.Sqrt),
    "exp": _of_one(edge.Expression.Exp),
    "log10": _of_one(edge.Expression.Log10),
    "ln": _of_one(edge.Expression.Ln),
    "acosh": _of_one(edge.Expression.Acosh),
    "div": _div,
    "pow": _pow,
    "geo_distance": _geo_distance,
    "datetime": lambda content, _inner: edge.Expression.Datetime(text(content, "`datetime`")),
    "datetime_key": lambda content, _inner: edge.Expression.DatetimeKey(text(content, "`datetime_key`")),
    "lin_decay": _decay(edge.DecayKind.Lin),
    "exp_decay": _decay(edge.DecayKind.Exp),
    "gauss_decay": _decay(edge.DecayKind.Gauss),
}
