"""The parameters of the query string that Qdrant's routes share."""

from collections.abc import Mapping

from embedded.qdrant.errors import ApiError

_ORDERINGS = ("weak", "medium", "strong")
_CONSISTENCIES = ("majority", "quorum", "all")


def check_shared(query: Mapping[str, str]) -> None:
    """Check `timeout`, `consistency` and `ordering` wherever they are given.

    None of them changes anything here: there is one copy of the data, and every answer comes at once.
    """
    if "timeout" in query:
        positive(query, "timeout")
    ordering = query.get("ordering")
    if ordering is not None and ordering not in _ORDERINGS:
        raise malformed(f"`ordering` is one of {', '.join(_ORDERINGS)}, not {ordering!r}")
    consistency = query.get("consistency")
    if consistency and consistency not in _CONSISTENCIES:
        if not consistency.isdecimal():
            raise malformed(f"`consistency` is a number or one of {', '.join(_CONSISTENCIES)}, not {consistency!r}")
        positive(query, "consistency")


def positive(query: Mapping[str, str], name: str) -> int:
    """A whole number from 1; raises ApiError, 422 for zero and 400 for what is no such number."""
    value = whole(query, name)
    if value == 0:
        message = f"Validation error in query parameters: [{name}: value 0 invalid, must be 1 or larger]"
        raise ApiError(422, message)
    return value


def whole(query: Mapping[str, str], name: str, default: int = 0) -> int:
    """A whole number from 0; raises ApiError (400)."""
    value = query.get(name)
    if value is None:
        return default
    if not (value.isascii() and value.isdigit() and len(value) < 19):
        raise malformed(f"`{name}` is a whole number, not {value!r}")
    return int(value)


def malformed(message: str) -> ApiError:
    """A parameter that cannot be read (400)."""
    return ApiError(400, f"Deserialize error in query parameters: {message}")
