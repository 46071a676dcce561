"""The fence: while a restore puts the knowledge base or the conversations in force, the chat answers 503 for seconds.

A key in Redis says so. Whoever restores writes it; every chat process looks every CHECK_SECONDS, in the background.
"""

from __future__ import annotations

import msgspec

KEY = "zhiyun:fence"
CHECK_SECONDS = 0.5
"""How often a chat process looks, and how long it waits for Redis at most."""

SEEN_SECONDS = 2 * CHECK_SECONDS + 0.2
"""After so long every process that reaches Redis has seen it."""


class Fence(msgspec.Struct, frozen=True):
    """What the key holds, as JSON."""

    reason: str
    until: float  # Unix time at which it goes by itself, unless it is renewed


def encode(fence: Fence) -> bytes:
    """The key's value."""
    return msgspec.json.encode(fence)


def decode(value: bytes | str) -> Fence:
    """The fence that a value tells of. One that cannot be read is a fence all the same."""
    try:
        return msgspec.json.decode(value, type=Fence)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Fence("", 0.0)
