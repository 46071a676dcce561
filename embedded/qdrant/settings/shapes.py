"""JSON objects put into a struct's shape, with Qdrant's two answers to what does not fit."""

import re
from typing import Any, TypeVar

import msgspec

from embedded.qdrant.errors import ApiError, invalid

T = TypeVar("T")

# How msgspec describes a number that is too small or too large.
_LIMIT = re.compile(r"Expected `(?:int|float)` (>=|<=) (\S+)$")


def shaped(value: Any, shape: type[T], what: str) -> T:
    """`value` as a `shape`; `what` names it in the message.

    Raises ApiError: 422 for a number outside its limits, 400 for any other misfit. No number in these shapes can be
    negative, which to a server is a matter of type, not of limits.
    """
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        reason, _, place = str(error).partition(" - at `$")
        where = what + place.rstrip("`").replace("[...]", "")
        limit, given = _LIMIT.match(reason), _at(value, place.strip(".`"))
        if limit and isinstance(given, int | float) and given >= 0:
            rule = f"{limit[2]} or {'larger' if limit[1] == '>=' else 'lower'}"
            raise invalid(f"{where}: value {given} invalid, must be {rule}") from error
        raise ApiError(400, f"Format error in JSON body: {where}: {reason}") from error


def _at(value: Any, place: str) -> Any:
    for key in place.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def without_nulls(value: dict[str, Any] | None) -> dict[str, Any]:
    """The fields that were really given."""
    return {key: item for key, item in (value or {}).items() if item is not None}


def renamed(value: dict[str, Any], **aliases: str) -> dict[str, Any]:
    """The object with each alias (left) in the place of the field that it stands for (right)."""
    return {aliases.get(key, key): item for key, item in value.items()}
