"""Bytes -> text: UTF-8, text with a byte order mark, or GB18030 where it reads as Chinese; else it is not text."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from functools import cache

_BOMS = (  # the UTF-32 marks begin like the UTF-16 ones, so they are looked for first
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_MAGIC = (
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"%PDF-", "a PDF"),
    (b"PK\x03\x04", "a ZIP archive or an office document"),
    (b"\x1f\x8b", "gzip data"),
    (b"\x7fELF", "a program"),
    (b"\xd0\xcf\x11\xe0", "an old office document"),
    (b"SQLite format 3", "an SQLite database"),
)
# What a page may declare; whatever else it names is treated as if it named nothing.
_DECLARED = re.compile(r"(utf-?8|gb2312|gbk|gb18030|big5|shift_jis|euc-(jp|kr)|iso-8859-\d+|windows-125\d)\Z", re.I)
_CONTROL = re.compile(r"[\x01-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_SAMPLE = 200_000  # characters that are enough to judge plausibility
_COMMON_SHARE = 0.9


class NotText(ValueError):
    """The bytes are not text. The message completes "<path> ..."."""


@dataclass(frozen=True)
class Decoded:
    """Text, the encoding that it was in, and a note for people where that is not the expected one."""

    text: str
    encoding: str
    note: str


def decode(raw: bytes, declared: str = "") -> Decoded:
    """The text of a file; a byte order mark is left out of it, line ends stay as they are.

    In order: a byte order mark, the encoding that the file itself declares (HTML), strict UTF-8, and strict GB18030
    if nine in ten of its other-than-ASCII characters are common Chinese ones. Raises NotText.
    """
    for magic, what in _MAGIC:
        if raw.startswith(magic):
            raise NotText(f"is not text: it looks like {what}")
    for mark, encoding in _BOMS:
        if raw.startswith(mark):
            try:
                text = raw[len(mark) :].decode(encoding)
            except UnicodeDecodeError as error:
                wrong = error.start + len(mark)
                raise NotText(f"is not text: it begins as {encoding}, but byte {wrong} is not") from None
            return Decoded(_clean(text), encoding, "" if encoding == "utf-8" else f"read as {encoding}, not UTF-8")
    if b"\0" in raw:
        raise NotText("is not text: it contains NUL bytes")
    if _DECLARED.match(declared) and not declared.lower().startswith("utf"):
        encoding = "gb18030" if declared.lower().startswith("gb") else declared.lower()
        text = _strictly(raw, encoding)
        if text is not None and (encoding != "gb18030" or _reads_as_chinese(text)):
            return Decoded(_clean(text), encoding, f"read as {encoding}, as it declares")
    try:
        return Decoded(_clean(raw.decode()), "utf-8", "")
    except UnicodeDecodeError as error:
        if _mostly_utf8(raw):
            raise NotText(f"is damaged: it is UTF-8 except for byte {error.start}") from None
    text = _strictly(raw, "gb18030")
    if text is None or not _reads_as_chinese(text):
        raise NotText("is not text: it is neither UTF-8 nor plausible GB18030; save it as UTF-8")
    return Decoded(_clean(text), "gb18030", "read as GB18030, not UTF-8")


def _strictly(raw: bytes, encoding: str) -> str | None:
    try:
        return raw.decode(encoding)
    except (UnicodeDecodeError, LookupError):
        return None


def _mostly_utf8(raw: bytes) -> bool:
    """Several characters beyond ASCII are right UTF-8, and at most one in fifty is not."""
    text = raw.decode(errors="replace")
    damaged = text.count("\N{REPLACEMENT CHARACTER}")
    right = len(text) - damaged - len(re.findall(r"[\x00-\x7f]", text))
    return damaged * 50 <= right


def _clean(text: str) -> str:
    if "\0" in text:
        raise NotText("is not text: it contains NUL characters")
    if len(_CONTROL.findall(text[:_SAMPLE])) > max(8, min(len(text), _SAMPLE) // 200):
        raise NotText("is not text: it is full of control characters")
    return text


def _reads_as_chinese(text: str) -> bool:
    sample = re.sub(r"[\x00-\x7f]+", "", text[:_SAMPLE])
    common = _common_characters()
    return bool(sample) and sum(character in common for character in sample) >= _COMMON_SHARE * len(sample)


@cache
def _common_characters() -> frozenset[str]:
    """The first levels of GB2312 and Big5 (everyday Simplified and Traditional characters) and Chinese punctuation."""
    characters = set("—…“”‘’·×℃→￥")
    for lead in (*range(0xA1, 0xA4), *range(0xB0, 0xD8)):
        characters.update(bytes((lead, trail)).decode("gb2312", "ignore") for trail in range(0xA1, 0xFF))
    for lead in range(0xA4, 0xC7):
        for trail in (*range(0x40, 0x7F), *range(0xA1, 0xFF)):
            characters.update(bytes((lead, trail)).decode("big5", "ignore"))
    return frozenset(character for character in characters if len(character) == 1)
