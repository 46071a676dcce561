"""Where a zstd frame ends. libzstd's streaming reader takes a frame that was cut short for its whole content."""

from __future__ import annotations

_MAGIC = b"\x28\xb5\x2f\xfd"


class NoFrame(ValueError):
    """These bytes are no zstd frame."""


class FrameEnd:
    """Follows the headers of one frame and of its blocks (RFC 8878, section 3.1.1) as its bytes go by."""

    def __init__(self) -> None:
        self.whole = False
        self.left_over = 0  # bytes after the end
        self._header = bytearray()
        self._wanted = 5  # bytes of the header that is being read; the frame's comes first
        self._skip = 0  # bytes of content before the next header
        self._in_blocks = False
        self._last = False
        self._checksum = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Raises NoFrame."""
        at, size = 0, len(data)
        while at < size and not self.whole:
            if self._skip:
                step = min(self._skip, size - at)
                self._skip -= step
            else:
                step = min(self._wanted - len(self._header), size - at)
                self._header += data[at : at + step]
                if len(self._header) == self._wanted:
                    self._read_header()
            at += step
            self.whole = self._last and not self._skip
        self.left_over += size - at

    def _read_header(self) -> None:
        if self._in_blocks:
            value = int.from_bytes(self._header, "little")
            kind, size = value >> 1 & 3, value >> 3
            if kind == 3:
                raise NoFrame("a block of a kind that does not exist")
            self._last = bool(value & 1)
            self._skip = (1 if kind == 1 else size) + (self._checksum if self._last else 0)
        else:
            if self._header[:4] != _MAGIC:
                raise NoFrame("it does not begin as zstd does")
            flags = self._header[4]
            single = flags >> 5 & 1
            self._checksum = 4 * (flags >> 2 & 1)
            self._skip = (1 - single) + (0, 1, 2, 4)[flags & 3] + (single, 2, 4, 8)[flags >> 6]
            self._in_blocks = True
            self._wanted = 3
        self._header.clear()
