"""Failures that a person can act on: shown in the Dagster UI as one sentence, without a stack trace above it."""

from collections.abc import Generator
from contextlib import contextmanager

import dagster as dg


@contextmanager
def sentences(*expected: type[Exception], retry: type[Exception] | tuple[type[Exception], ...] = ()) -> Generator[None]:
    """Turn these exceptions into a failure of the step. Those of `retry` may be tried again, by the step's retry policy."""
    try:
        yield
    except expected as error:
        raise dg.Failure(description=str(error), allow_retries=isinstance(error, retry)) from None
