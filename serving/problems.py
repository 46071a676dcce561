"""Errors as RFC 9457 problem details: one sentence each, and never a stack trace."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, SerializationException, ValidationException
from litestar.plugins.problem_details import (
    ProblemDetailsConfig,
    ProblemDetailsException,
    ProblemDetailsPlugin,
)

_NO_JSON = "The body is not valid JSON in UTF-8."

_log = structlog.get_logger(__name__)


def problem(status: int, detail: str, *, retry_after: int | None = None) -> ProblemDetailsException:
    """An error to raise. `retry_after` is in seconds."""
    return ProblemDetailsException(
        status_code=status,
        title=HTTPStatus(status).phrase,
        detail=detail,
        headers={"retry-after": str(retry_after)} if retry_after is not None else None,
    )


def _of_http(error: HTTPException) -> ProblemDetailsException:
    status = error.status_code
    try:
        title = HTTPStatus(status).phrase
    except ValueError:
        title = "Error"
    if isinstance(error, ValidationException) and _no_body(error):
        status, title = 400, HTTPStatus(400).phrase
    elif isinstance(error, ValidationException):
        status, title = 422, HTTPStatus(422).phrase
    detail = _sentence(error) if status < 500 else "The service could not answer this request."
    return ProblemDetailsException(status_code=status, title=title, detail=detail, headers=error.headers)


def _no_body(error: ValidationException) -> bool:
    return isinstance(error.extra, list) and any(
        isinstance(item, dict) and item.get("key") == "data" and item.get("message") == "'data'" for item in error.extra
    )


def _sentence(error: HTTPException) -> str:
    """What is wrong with the request, with the fields that are."""
    if error.status_code == 404:
        return "There is nothing at this address."
    if error.status_code == 413:
        return "The request is too large."
    if isinstance(error.__cause__, SerializationException):
        return _NO_JSON
    extra: Any = error.extra
    if isinstance(error, ValidationException) and _no_body(error):
        return "The body is empty; send a JSON object."
    if isinstance(error, ValidationException) and isinstance(extra, list):
        fields = [
            f"{item['key']}: {item['message']}" if item.get("key") else str(item["message"])
            for item in extra
            if isinstance(item, dict) and "message" in item
        ]
        if fields:
            return "; ".join(fields)[:500]
    return str(error.detail)[:300]


def _undecodable(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    return problem(400, _NO_JSON).to_response(request)


def _unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    _log.error("request_failed", route=request.scope.get("path_template"), exc_info=error)
    return problem(500, "Something went wrong on our side; it has been logged.").to_response(request)


PLUGIN = ProblemDetailsPlugin(ProblemDetailsConfig(exception_to_problem_detail_map={HTTPException: _of_http}))
UNEXPECTED = {
    Exception: _unexpected,
    # msgspec's own for a body that is not UTF-8, or nested without end; Litestar lets them through.
    UnicodeDecodeError: _undecodable,
    RecursionError: _undecodable,
}
