"""JSON objects put into a struct's shape, with Qdrant's two answers to what does not fit."""

from typing import Any, TypeVar

import msgspec

from embedded.qdrant.errors import ApiError, invalid

T = TypeVar("T")

# How msgspec begins to describe a value of the right type that is too small or too large.
_LIMITS = ("`int` >=", "`int` <=", "`float` >=", "`float` <=")


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
        if any(limit in reason for limit in _LIMITS) and not _is_negative(value, place.strip(".`")):
            raise invalid(f"{where}: {reason}") from error
        raise ApiError(400, f"Format error in JSON body: {where}: {reason}") from error


def _is_negative(value: Any, place: str) -> bool:
    for key in place.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return isinstance(value, int | float) and value < 0


def without_nulls(value: dict[str, Any] | None) -> dict[str, Any]:
    """The fields that were really given."""
    return {key: item for key, item in (value or {}).items() if item is not None}


def renamed(value: dict[str, Any], **aliases: str) -> dict[str, Any]:
    """The object with each alias (left) in the place of the field that it stands for (right)."""
    return {aliases.get(key, key): item for key, item in value.items()}
