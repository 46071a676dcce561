"""What can go wrong, as the caller is told it: an HTTP status and one sentence."""

import errno

DISK_FULL = 507
"""The status of what was not written for lack of room."""


class ApiError(Exception):
    """A request that cannot be answered.

    `status` is the HTTP status; the message goes into Qdrant's error shape as it is.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class StartError(Exception):
    """The server cannot start; the message is the one line that says why."""


def bad_request(message: str) -> ApiError:
    """The caller's input is wrong (400)."""
    return ApiError(400, f"Wrong input: {message}")


def invalid(message: str) -> ApiError:
    """A value of the right type that is not allowed (422)."""
    return ApiError(422, f"Validation error in JSON body: [{message}]")


def not_found(message: str) -> ApiError:
    """What the caller names does not exist (404)."""
    return ApiError(404, f"Not found: {message}")


def conflict(message: str) -> ApiError:
    """What the caller wants to create is there already (409)."""
    return ApiError(409, f"Wrong input: {message}")


def not_built(feature: str) -> ApiError:
    """A part of Qdrant's API that this server does not have (501)."""
    return ApiError(501, f"Not implemented: the embedded vector store does not have {feature}")


def service_error(message: str) -> ApiError:
    """The fault is on this side (500)."""
    return ApiError(500, f"Service internal error: {message}")


def disk_full(message: str) -> ApiError:
    """There is no room for a write (507)."""
    return ApiError(DISK_FULL, f"Insufficient storage: {message}")


def from_os(error: OSError) -> ApiError:
    """What the operating system refused: no room (507), or anything else (500)."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return disk_full(str(error))
    return service_error(str(error))
