"""Memory or threads that the system does not give, by the names that programs have for it."""

from __future__ import annotations

import errno

STARVED = (
    "the system gives it no more memory or threads; see how much is free, and what `ulimit -a` and the container allow"
)

_WORDS = (
    "MemoryError",
    "can't start new thread",
    "returned NULL without setting an exception",  # Python, where it had no memory for the exception
    "cannot allocate memory",
    "can't allocate",
    "could not allocate",
    "out of memory",
    "malloc failure",  # OpenSSL
    "failed to map segment",  # the loader of shared objects
    "std::bad_alloc",
    "pthread_create failed",
    "memory allocation of",  # Rust
)


def is_starved(error: BaseException) -> bool:
    """Whether an exception means that memory or threads ran out."""
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return isinstance(error, MemoryError) or tells_of_it(str(error))


def tells_of_it(text: str) -> bool:
    """Whether a program's last words mean that memory or threads ran out."""
    folded = text.casefold()
    return any(words.casefold() in folded for words in _WORDS)
