"""An object store in this process, for tests that look at every byte that was written, or change one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from objects.store import ObjectMissing, StoredObject


@dataclass
class MemoryObjects:
    objects: dict[str, bytes] = field(default_factory=dict)
    name: str = "memory"
    url: str = "memory://"

    def put(self, key: str, chunks: Iterable[bytes]) -> int:
        content = b"".join(chunks)
        self.objects[key] = content
        return len(content)

    def read(self, key: str) -> Iterator[bytes]:
        if key not in self.objects:
            raise ObjectMissing(f"There is no object {key} in {self.url}.")
        content = self.objects[key]
        for start in range(0, len(content), 65536):
            yield content[start : start + 65536]

    def stat(self, key: str) -> StoredObject | None:
        found = self.objects.get(key)
        return StoredObject(key, len(found), datetime.now(UTC)) if found is not None else None

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        for key in sorted(self.objects):
            if key.startswith(prefix):
                yield StoredObject(key, len(self.objects[key]), datetime.now(UTC))

    def delete(self, keys: Iterable[str]) -> int:
        return sum(1 for key in keys if self.objects.pop(key, None) or True)

    def sweep(self, older_than: timedelta) -> int:
        return 0

    def free_bytes(self) -> int | None:
        return None
