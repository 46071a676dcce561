"""Encryption of what goes into a store, with age (age-encryption.org/v1: X25519, ChaCha20-Poly1305).

An object can be read without this program: `age --decrypt --identity KEY_FILE < OBJECT | zstd -d`.
"""

from __future__ import annotations

import hmac
import importlib
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from orchestration.backups.recovery_point import BackupError, Manifest, PointDamaged
from zhiyun.settings import BackupSettings, SettingsError

_PIECE = 1 << 20
_AHEAD = 4  # pieces that wait for the thread
_HOW = "write an age identity (AGE-SECRET-KEY-1…), as `zhiyun backup key` makes it"


class WrongKey(BackupError):
    """None of the keys opens an object; or those of its bytes are damaged that say which key does."""


class Keys:
    """The identities of a key file. The first one encrypts; all of them decrypt, so that a key can be changed."""

    def __init__(self, identities: list[Any], variable: str) -> None:
        self._identities = identities
        self.variable = variable
        self.fingerprints = tuple(str(identity.to_public()) for identity in identities)

    @staticmethod
    def load(settings: BackupSettings) -> Keys | None:
        """The keys of BACKUP_KEY_FILE or BACKUP_KEY, None if neither is set. Raises SettingsError in one sentence."""
        if settings.key and settings.key_file:
            raise SettingsError("BACKUP_KEY and BACKUP_KEY_FILE: are both set; leave one of them out")
        if settings.key:
            return Keys(_identities(settings.key, "BACKUP_KEY"), "BACKUP_KEY")
        if not settings.key_file:
            return None
        shown = f"BACKUP_KEY_FILE={settings.key_file!r}"
        try:
            text = Path(settings.key_file).expanduser().read_text(encoding="utf-8")
        except OSError as error:
            raise SettingsError(
                f"{shown}: cannot be read: {(error.strerror or type(error).__name__).lower()}"
            ) from None
        except UnicodeDecodeError:
            raise SettingsError(f"{shown}: is not a text file; {_HOW}") from None
        return Keys(_identities(text, shown), "BACKUP_KEY_FILE")

    @property
    def fingerprint(self) -> str:
        """The age recipient (`age1…`) that belongs to the key: it may be shown and stored."""
        return self.fingerprints[0]

    def derived(self, purpose: str) -> bytes:
        """A secret for another use, made of the key that encrypts: it changes when that key does."""
        return hmac.digest(str(self._identities[0]).encode(), purpose.encode(), "sha256")

    def encrypted(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The bytes as an age file."""
        recipient = self._identities[0].to_public()
        return _through(lambda reader, writer: _pyrage().encrypt_io(reader, writer, [recipient]), chunks)

    def decrypted(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The content of an age file. Raises WrongKey, PointDamaged for bytes that were changed or are missing."""
        try:
            yield from _through(lambda reader, writer: _pyrage().decrypt_io(reader, writer, self._identities), chunks)
        except _AgeError as error:
            reason = str(error.__cause__).splitlines()[0]
            if reason.startswith("No matching keys"):
                raise WrongKey(
                    f"the key in {self.variable} ({' and '.join(self.fingerprints)}) is not the one that it was encrypted "
                    f"with; set {self.variable} to that one"
                ) from None
            raise PointDamaged(f"what was encrypted is damaged ({reason})") from None

    def __repr__(self) -> str:
        return f"Keys({', '.join(self.fingerprints)})"


def check_key(keys: Keys | None, manifest: Manifest) -> None:
    """Raises BackupError if the point is encrypted and no key that is set opens it."""
    if not manifest.key or (keys and manifest.key in keys.fingerprints):
        return
    has = f"{keys.variable} has the key {' and '.join(keys.fingerprints)}" if keys else "BACKUP_KEY_FILE is not set"
    raise BackupError(
        f"Recovery point {manifest.id} is encrypted with the key {manifest.key} and cannot be read: {has}. "
        "Set BACKUP_KEY_FILE to a file with that key. Nothing was changed."
    )


def generate() -> str:
    """The text of a key file with a new identity, as age-keygen writes it."""
    identity = _pyrage().x25519.Identity.generate()
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return f"# created: {now}\n# public key: {identity.to_public()}\n{identity}\n"


def _identities(text: str, shown: str) -> list[Any]:
    lines = [line.strip() for line in text.lstrip("\ufeff").splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise SettingsError(f"{shown}: has no key in it; {_HOW}")
    found: list[Any] = []
    for key in keys:
        # What is there instead is not repeated: it may be a secret of another kind.
        with suppress(_pyrage().IdentityError):
            found.append(_pyrage().x25519.Identity.from_str(key))
            continue
        raise SettingsError(f"{shown}: has a line that is no key; {_HOW}")
    return found


def _pyrage() -> Any:
    return importlib.import_module("pyrage")  # has no types


class _AgeError(Exception):
    """pyrage failed; the cause says how."""


def _through(work: Callable[[_Reader, _Writer], None], chunks: Iterable[bytes]) -> Iterator[bytes]:
    """What `work` writes while it reads `chunks`; it runs in a thread that ends with this generator.

    `chunks` is iterated here, not there: what it raises stays as it is, and a source that hangs holds up no thread. The
    thread is at most _AHEAD pieces behind, and what it has written is taken before it gets more: that bounds memory.
    """
    inbox, outbox = _Inbox(), SimpleQueue[bytes | BaseException | None]()

    def run() -> None:
        try:
            writer = _Writer(outbox)
            work(_Reader(inbox), writer)
            writer.finish()
            outbox.put(None)
        except BaseException as error:
            outbox.put(error)
        finally:
            inbox.close()

    thread = threading.Thread(target=run, name="age", daemon=True)
    thread.start()
    done = False
    try:
        for chunk in chunks:
            if chunk:
                inbox.put(chunk)
            while not done and not outbox.empty():
                if (piece := _checked(outbox.get())) is None:
                    done = True
                else:
                    yield piece
        inbox.put(b"")
        while not done:
            if (piece := _checked(outbox.get())) is None:
                done = True
            else:
                yield piece
    finally:
        inbox.close()
        thread.join()
        close = getattr(chunks, "close", None)
        if close:
            close()


def _checked(item: bytes | BaseException | None) -> bytes | None:
    if isinstance(item, BaseException):
        raise _AgeError from item
    return item


class _Inbox:
    """Chunks on their way to the thread; an empty one is the end. Closed: nothing waits for anything any more."""

    def __init__(self) -> None:
        self._items: list[bytes] = []
        self._closed = False
        self._changed = threading.Condition()

    def put(self, chunk: bytes) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < _AHEAD)
            self._items.append(chunk)
            self._changed.notify_all()

    def get(self) -> bytes:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._items)
            if self._closed:
                raise EOFError("closed")
            chunk = self._items.pop(0)
            self._changed.notify_all()
            return chunk

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class _Reader:
    """A file for pyrage to read from, which asks for 8 KiB at a time."""

    def __init__(self, inbox: _Inbox) -> None:
        self._inbox = inbox
        self._chunk = memoryview(b"")
        self._ended = False

    def read(self, size: int) -> bytes:
        if not self._chunk and not self._ended:
            self._chunk = memoryview(self._inbox.get())
            self._ended = not self._chunk
        piece, self._chunk = self._chunk[:size], self._chunk[size:]
        return bytes(piece)


class _Writer:
    """A file for pyrage to write to; passes on pieces of a MiB."""

    def __init__(self, outbox: SimpleQueue[bytes | BaseException | None]) -> None:
        self._outbox = outbox
        self._piece = bytearray()

    def write(self, data: bytes) -> int:
        self._piece += data
        if len(self._piece) >= _PIECE:
            self.finish()
        return len(data)

    def flush(self) -> None:
        """Nothing: the rest comes with `finish`."""

    def finish(self) -> None:
        if self._piece:
            self._outbox.put(bytes(self._piece))
            self._piece = bytearray()
