"""Filters and selectors: from decoded JSON to the engine's classes, which take no JSON themselves."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
import qdrant_edge as edge

from embedded.qdrant.errors import ApiError, bad_request, invalid
from embedded.qdrant.settings.config import CollectionConfig
from embedded.qdrant.settings.validate import MAX_FILTER_DEPTH, point_ids, shortened, vector_name

Object = dict[str, Any]
Shape = TypeVar("Shape", bound=msgspec.Struct)
Condition = Any
"""One of the engine's condition classes; they share no base."""

_FILTER_FIELDS = frozenset({"must", "should", "must_not", "min_should"})
_FIELD_FIELDS = frozenset(
    {
        "key",
        "match",
        "range",
        "geo_bounding_box",
        "geo_radius",
        "geo_polygon",
        "values_count",
        "is_empty",
        "is_null",
    }
)


def to_filter(value: Any, config: CollectionConfig, depth: int = 0) -> edge.Filter | None:
    """A request's `filter`, or None where it has none. Raises ApiError for any other shape."""
    if value is None:
        return None
    if depth > MAX_FILTER_DEPTH:
        raise bad_request(f"a filter can be nested {MAX_FILTER_DEPTH} levels deep, this one is deeper")
    given = fields(value, _FILTER_FIELDS, "a filter")
    least = given.get("min_should")
    return edge.Filter(
        must=_clause(given.get("must"), config, depth),
        should=_clause(given.get("should"), config, depth),
        must_not=_clause(given.get("must_not"), config, depth),
        min_should=None if least is None else _min_should(least, config, depth),
    )


def to_condition(value: Any, config: CollectionConfig, depth: int = 0) -> Condition:
    """One condition of a filter, of a `nested` filter or of a formula."""
    if not isinstance(value, Mapping):
        raise bad_request(f"a condition is an object, not {shortened(value)}")
    if "key" in value:
        return _field(fields(value, _FIELD_FIELDS, "a condition on a field"))
    if _FILTER_FIELDS.intersection(value):
        return to_filter(value, config, depth + 1)
    if len(value) != 1:
        raise bad_request(f"a condition has a `key`, or is one of {', '.join(_OTHERS)}: {shortened(value)}")
    kind, content = next(iter(value.items()))
    if kind not in _OTHERS:
        raise bad_request(f"there is no condition `{kind}`")
    return _OTHERS[kind](content, config, depth)


def to_payload_selector(value: Any, default: bool) -> Any:
    """A request's `with_payload`: true, false, a list of paths, or an object with `include` or `exclude`."""
    if value is None:
        return default
    if isinstance(value, bool):
        return value
    if isinstance(value, list):
        return edge.PayloadSelector.Include(_paths(value))
    given = fields(value, frozenset({"include", "exclude"}), "`with_payload`")
    if len(given) != 1:
        raise bad_request("`with_payload` takes either `include` or `exclude`")
    if "include" in given:
        return edge.PayloadSelector.Include(_paths(given["include"]))
    return edge.PayloadSelector.Exclude(_paths(given["exclude"]))


def to_vector_selector(value: Any, config: CollectionConfig) -> bool | list[str]:
    """A request's `with_vector`: true, false, or a list of vector names."""
    if value is None:
        return False
    if isinstance(value, bool):
        return value
    if isinstance(value, list):
        return [vector_name(config, name) for name in _paths(value)]
    raise bad_request("`with_vector` is true, false or a list of vector names")


def fields(value: Any, allowed: frozenset[str], what: str) -> Object:
    """The given fields of a JSON object, without those that are null; raises ApiError for an unknown one."""
    if not isinstance(value, Mapping):
        raise bad_request(f"{what} is an object, not {shortened(value)}")
    for key in value:
        if key not in allowed:
            raise bad_request(f"{what} has no field `{key}`; it has {', '.join(sorted(allowed))}")
    return {key: item for key, item in value.items() if item is not None}


def integer(value: Any, what: str, least: int = 0) -> int:
    """A whole number that the engine's unsigned integers can hold."""
    if type(value) is not int or not least <= value < 2**62:
        raise bad_request(f"{what} is a whole number of at least {least}, not {shortened(value)}")
    return value


def number(value: Any, what: str) -> float:
    """A finite number."""
    if type(value) is not int and type(value) is not float:
        raise bad_request(f"{what} is a number, not {shortened(value)}")
    return float(value)


def text(value: Any, what: str) -> str:
    """A string."""
    if type(value) is not str:
        raise bad_request(f"{what} is a string, not {shortened(value)}")
    return value


def flag(value: Any, what: str) -> bool:
    """true or false."""
    if type(value) is not bool:
        raise bad_request(f"{what} is true or false, not {shortened(value)}")
    return value


def _clause(value: Any, config: CollectionConfig, depth: int) -> list[Condition] | None:
    if value is None:
        return None
    # Qdrant takes one condition in place of a list of one.
    conditions = value if isinstance(value, list) else [value]
    return [to_condition(condition, config, depth) for condition in conditions]


def _min_should(value: Any, config: CollectionConfig, depth: int) -> edge.MinShould:
    given = fields(value, frozenset({"conditions", "min_count"}), "`min_should`")
    conditions = _clause(given.get("conditions"), config, depth) or []
    return edge.MinShould(conditions, integer(given.get("min_count"), "`min_count`"))


def _field(given: Object) -> edge.FieldCondition:
    if len(given) < 2:
        raise invalid(f"filter: At least one field condition must be specified for `{given['key']}`")
    converted = {name: _FIELD_PARTS[name](value) for name, value in given.items()}
    return edge.FieldCondition(**converted)


def _match(value: Any) -> Any:
    if not isinstance(value, Mapping) or len(value) != 1:
        raise bad_request(f"`match` has exactly one of {', '.join(_MATCHES)}: {shortened(value)}")
    kind, content = next(iter(value.items()))
    if kind not in _MATCHES:
        raise bad_request(f"`match` has no `{kind}`; it has {', '.join(_MATCHES)}")
    return _MATCHES[kind](content)


def _match_value(value: Any) -> edge.MatchValue:
    if type(value) not in (str, int, bool):
        raise bad_request(f"`match.value` is a string, a whole number or a boolean, not {shortened(value)}")
    if type(value) is bool:
        # The engine's binding tries integers first and takes True for 1; numpy's boolean is not an integer.
        import numpy as np

        return edge.MatchValue(np.bool_(value))  # pyright: ignore[reportArgumentType]
    return edge.MatchValue(value)


def _variants(value: Any) -> list[str] | list[int]:
    kinds = {type(item) for item in value} if isinstance(value, list) else {object}
    if len(kinds) <= 1 and kinds <= {str, int}:
        return list(value)
    raise bad_request(f"`match.any` and `match.except` are lists of strings or of whole numbers: {shortened(value)}")


def _range(value: Any) -> edge.RangeFloat | edge.RangeDateTime:
    given = fields(value, frozenset({"lt", "gt", "lte", "gte"}), "`range`")
    if given and all(isinstance(bound, str) for bound in given.values()):
        return edge.RangeDateTime(**given)
    return edge.RangeFloat(**{name: number(bound, f"`range.{name}`") for name, bound in given.items()})


def _values_count(value: Any) -> edge.ValuesCount:
    given = fields(value, frozenset({"lt", "gt", "lte", "gte"}), "`values_count`")
    return edge.ValuesCount(**{name: integer(bound, f"`values_count.{name}`") for name, bound in given.items()})


class GeoPoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A place on Earth, in degrees."""

    lon: float
    lat: float

    def for_engine(self) -> edge.GeoPoint:
        """The engine's form; raises ValueError outside -180..180 and -90..90."""
        return edge.GeoPoint(self.lon, self.lat)


class _Box(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    top_left: GeoPoint
    bottom_right: GeoPoint


class _Radius(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    center: GeoPoint
    radius: float


class _Ring(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    points: list[GeoPoint]

    def for_engine(self) -> list[edge.GeoPoint]:
        return [point.for_engine() for point in self.points]


class _Polygon(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    exterior: _Ring
    interiors: list[_Ring] | None = None


def geo_point(value: Any) -> edge.GeoPoint:
    """A place given as `{lon, lat}`."""
    return _typed(value, GeoPoint).for_engine()


def _geo_box(value: Any) -> edge.GeoBoundingBox:
    box = _typed(value, _Box)
    return edge.GeoBoundingBox(box.top_left.for_engine(), box.bottom_right.for_engine())


def _geo_radius(value: Any) -> edge.GeoRadius:
    circle = _typed(value, _Radius)
    return edge.GeoRadius(circle.center.for_engine(), circle.radius)


def _geo_polygon(value: Any) -> edge.GeoPolygon:
    polygon = _typed(value, _Polygon)
    inner = None if polygon.interiors is None else [ring.for_engine() for ring in polygon.interiors]
    return edge.GeoPolygon(polygon.exterior.for_engine(), inner)


def _typed(value: Any, shape: type[Shape]) -> Shape:
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        raise bad_request(f"a place: {error}") from error


def _paths(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(path, str) for path in value):
        raise bad_request(f"a list of names is wanted, not {shortened(value)}")
    return list(value)


def _key_of(value: Any, what: str) -> str:
    return text(fields(value, frozenset({"key"}), what).get("key"), f"`{what}.key`")


def _has_id(value: Any, _config: CollectionConfig, _depth: int) -> edge.HasIdCondition:
    return edge.HasIdCondition(set(point_ids(value if isinstance(value, list) else [value])))


def _nested(value: Any, config: CollectionConfig, depth: int) -> edge.NestedCondition:
    given = fields(value, frozenset({"key", "filter"}), "`nested`")
    inner = to_filter(given.get("filter"), config, depth + 1)
    if inner is None:
        raise bad_request("`nested` needs a `filter`")
    return edge.NestedCondition(text(given.get("key"), "`nested.key`"), inner)


def _slice(value: Any, _config: CollectionConfig, _depth: int) -> Condition:
    given = fields(value, frozenset({"total", "index"}), "`slice`")
    total, index = (
        integer(given.get("total"), "`slice.total`", 1),
        integer(given.get("index"), "`slice.index`"),
    )
    if index >= total:
        raise ApiError(
            422, f"Validation error in JSON body: [slice.index: value {index} invalid, must be below {total}]"
        )
    # The class is there, but the wheel's stubs leave it out.
    return edge.SliceCondition(total, index)  # pyright: ignore[reportAttributeAccessIssue]


_MATCHES: dict[str, Callable[[Any], Any]] = {
    "value": _match_value,
    "text": lambda value: edge.MatchText(text(value, "`match.text`")),
    "text_any": lambda value: edge.MatchTextAny(text(value, "`match.text_any`")),
    "phrase": lambda value: edge.MatchPhrase(text(value, "`match.phrase`")),
    "prefix": lambda value: edge.MatchPrefix(text(value, "`match.prefix`")),
    "substring": lambda value: edge.MatchSubstring(text(value, "`match.substring`")),
    "any": lambda value: edge.MatchAny(_variants(value)),
    "except": lambda value: edge.MatchExcept(_variants(value)),
}
_FIELD_PARTS: dict[str, Callable[[Any], Any]] = {
    "key": lambda value: text(value, "`key`"),
    "match": _match,
    "range": _range,
    "geo_bounding_box": _geo_box,
    "geo_radius": _geo_radius,
    "geo_polygon": _geo_polygon,
    "values_count": _values_count,
    "is_empty": lambda value: flag(value, "`is_empty`"),
    "is_null": lambda value: flag(value, "`is_null`"),
}
_OTHERS: dict[str, Callable[[Any, CollectionConfig, int], Condition]] = {
    "is_empty": lambda value, _config, _depth: edge.IsEmptyCondition(_key_of(value, "is_empty")),
    "is_null": lambda value, _config, _depth: edge.IsNullCondition(_key_of(value, "is_null")),
    "has_id": _has_id,
    "has_vector": lambda value, config, _depth: edge.HasVectorCondition(vector_name(config, value)),
    "nested": _nested,
    "slice": _slice,
}
