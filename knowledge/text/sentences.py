"""Where a text may be cut: after sentences, and inside one that is too long."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

# Chinese marks end a sentence where they stand; Latin ones before a space, or (but for the dot) after a Chinese
# character. Closing quotes and brackets, and the target of a link, belong to the sentence.
_CLOSERS = r"(?:\]\([^()\n]{0,400}\)|[」』”’）》】〉］｝)\]}])*"
_BOUNDARY = re.compile(
    rf"[。！？；…][。！？；…!?]*{_CLOSERS}"
    rf"|(?<=[㐀-鿿])[!?;]+{_CLOSERS}"
    rf"|(?P<latin>[.!?;]+){_CLOSERS}(?=[\"'*_`~]{{0,4}}(?:\s|\Z))"
    r"|(?P<line>\n)(?=[ \t>]*(?:[-*+•·]|\d{1,3}[.、)）])[ \t]*[^\s.])"  # a line that begins like a list item
)
_AMBIGUOUS = re.compile(r"([*_`~\"'])\1*")  # opens or closes, by whether one is open
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|vs|etc|cf|No|Mr|Mrs|Ms|Dr|St|Fig|approx)|^[ \t>]*\d{1,3}|\b[A-Z])\Z", re.MULTILINE
)
_COMMA = re.compile(r"[，、：,:][^\S\n]*")
_SPACE = re.compile(r"\s+")
_LATE = 2  # a cut inside a sentence leaves at least half of the length asked for


def sentences(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The sentences of text[start:end] as offsets; with the spaces between them they are the whole stretch."""
    begin = start
    position = start
    while match := _BOUNDARY.search(text, position, end):
        position = match.end()
        if match["latin"] == "." and _ABBREVIATION.search(text[max(begin, match.start() - 12) : match.start()]):
            continue
        if not match["line"] and (mark := _AMBIGUOUS.match(text, position, end)):
            closes = text.count(mark[0], begin, position) % 2 == 1
            position = mark.end() if closes else position
        if space := _SPACE.match(text, position, end):
            position = space.end()
        yield begin, position
        begin = position
    if begin < end:
        yield begin, end


def parts(text: str, start: int, end: int, length: int) -> Iterator[tuple[int, int]]:
    """text[start:end], a sentence that is too long, in stretches of at most `length` characters.

    Cut at line ends, else commas, else spaces, else anywhere but inside a composed character.
    """
    while end - start > length:
        cut = _cut(text, start, start + length, length)
        yield start, cut
        start = cut
    if start < end:
        yield start, end


def _cut(text: str, start: int, limit: int, length: int) -> int:
    early = start + length // _LATE
    line = max(text.rfind("\n", early, limit), text.rfind("\r", early, limit - 1))
    if line >= 0:
        return line + 1
    for pattern in (_COMMA, _SPACE):
        if found := [match.end() for match in pattern.finditer(text, early, limit)]:
            return found[-1]
    cut = limit
    while cut > early and _joined(text, cut):
        cut -= 1
    return cut if cut > early else limit


def _joined(text: str, cut: int) -> bool:
    """True between a character and a mark, selector or joiner that belongs to it, and inside a line end."""
    after, before = text[cut], text[cut - 1]
    return (
        unicodedata.combining(after) != 0
        or after in "\ufe0e\ufe0f\u200d"
        or "\U0001f3fb" <= after <= "\U0001f3ff"
        or before == "\u200d"
        or (before == "\r" and after == "\n")
    )
