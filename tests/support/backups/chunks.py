"""Chunks of bytes for tests of streams, a source that knows whether it was closed, and what a refusal looks like."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

from orchestration.backups.recovery_point import BackupError

MEBIBYTE = 1 << 20
DATA = b"".join(
    f"{number}\t\xe4\xbd\xa0\xe5\xa5\xbd, \u95ee\u9898 {number * 7919 % 1000}\n".encode() for number in range(4000)
)


def cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """The data in chunks of these sizes, over and over."""
    at, turn = 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        yield data[at : at + size]
        at, turn = at + size, turn + 1


def endless() -> Iterator[bytes]:
    chance = random.Random(1)
    while True:
        yield chance.randbytes(MEBIBYTE)


class Source:
    """An iterable of chunks that knows whether it was closed."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._chunks)

    def close(self) -> None:
        self.closed = True


def told_in_one_sentence(error: BackupError, *words: str) -> None:
    text = str(error)
    assert "\n" not in text
    assert text.endswith("Nothing was changed.")
    for word in words:
        assert word in text
