"""Plain text -> blocks: paragraphs between blank lines or rulers (=====), and headings as Chinese manuals have them.

Nothing in it is markup: a line that begins with `#` or `*` is text like any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from knowledge.text.blocks import Block
from knowledge.text.markup import WORD

_HEADING_CHARS = 40
_LINE = re.compile(r"[^\r\n]*(?:\r\n?|\n|\Z)")
_RULER = re.compile(r"\s*([=\-_*~#—─═])\1{3,}\s*\Z")
_SENTENCE_END = "。！？；，、：…,.;:!?"
_NUMBER = "[0-9０-９一二三四五六七八九十百零〇]+"
_NUMBERED = (  # level, form
    (1, re.compile(rf"第{_NUMBER}[部篇编卷]")),
    (2, re.compile(rf"第{_NUMBER}章")),
    (3, re.compile(rf"第{_NUMBER}[节条]")),
    (4, re.compile(r"[一二三四五六七八九十]{1,3}[、．.]")),
    (5, re.compile(r"[（(][一二三四五六七八九十]{1,3}[）)]")),
    (6, re.compile(r"\d{1,2}(?P<deeper>(?:\.\d{1,2})*)(?:[.、．]\s?|\s)\S")),
)


def plain_blocks(text: str) -> Iterator[Block]:
    """The blocks of a plain text, in order.

    A heading stands alone between blank lines (or rulers), is short, does not end like a sentence and is numbered
    like "第二章", "一、", "（一）" or "1.". A first line that stands alone, ends like no sentence and has no number is
    the title (level 0).
    """
    first = True
    for start, end in _paragraphs(text):
        line = text[start:end].strip()
        level = _level(line, first)
        first = False
        yield Block("text", start, end) if level is None else Block("heading", start, end, level, line)


def _paragraphs(text: str) -> Iterator[tuple[int, int]]:
    begin = -1
    for line in _LINE.finditer(text):
        if line[0].isspace() or not line[0] or _RULER.match(line[0]):
            if begin >= 0:
                yield begin, line.start()
            begin = -1
        elif begin < 0:
            begin = line.start()
    if begin >= 0:
        yield begin, len(text)


def _level(line: str, first: bool) -> int | None:
    if len(line) > _HEADING_CHARS or "\n" in line or "\r" in line or line[-1] in _SENTENCE_END:
        return None
    for level, form in _NUMBERED:
        if match := form.match(line):
            return level + (match["deeper"].count(".") if "deeper" in match.groupdict() else 0)
    return 0 if first and WORD.search(line) else None
