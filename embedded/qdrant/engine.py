"""The one gate to the engine: every call passes `guarded`, which turns its failures into API errors."""

from collections.abc import Callable
from typing import TypeVar

from embedded.qdrant.errors import ApiError, bad_request, disk_full, from_os, not_found, service_error

T = TypeVar("T")

# The engine raises plain `Exception` for both sides' faults; these beginnings mark its own.
_OWN_FAULTS = ("Service runtime error", "Service internal error", "IO error", "Out of memory")


class EnginePanic(Exception):
    """The engine hit a bug inside. What it left in memory and in its log is not to be trusted."""


def guarded(call: Callable[[], T]) -> T:
    """Run one engine call.

    Raises ApiError for what the engine refuses, EnginePanic when the engine itself breaks. A panic arrives as
    pyo3's `PanicException`, which derives from BaseException and would otherwise end the process.
    """
    try:
        return call()
    except ApiError:
        raise
    except (ValueError, TypeError, OverflowError) as error:
        # Raised while arguments are converted, before the engine has written anything.
        raise bad_request(_first_line(error)) from error
    except OSError as error:
        raise from_os(error) from error
    except Exception as error:
        raise _refused(_first_line(error)) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise EnginePanic(_first_line(error)) from error


def _refused(message: str) -> ApiError:
    if "No space left" in message:
        return disk_full(message)
    if message.startswith(_OWN_FAULTS):
        return service_error(message)
    if message.startswith("No point with id"):
        return not_found(message)
    if message.startswith("Operation cancelled"):
        # What the engine says when a formula meets a point without the value it needs.
        return bad_request("the formula needs a value that some point does not have; give it in `defaults`")
    return bad_request(message)


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
