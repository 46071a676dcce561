"""The promises of `knowledge.passages`, checked on any document: used by the unit tests and on the real corpus."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from knowledge.documents.document import Document
from knowledge.passages.splitter import Passage
from knowledge.text.blocks import HEADING_CHARS, Block
from knowledge.text.markdown import front_matter
from knowledge.text.markup import has_content
from knowledge.text.structure import blocks

SENTENCE_END = re.compile(
    r"[。！？；…!?.;][」』”’）》】〉］｝)\]}\"'*_`~]*(?:\([^()\n]*\))?[」』”’）》】）)\"'*_`]*\s*\Z"
)
ITEM = re.compile(r"[ \t>]*(?:[-*+•·]|\d{1,3}[.、)）])")


@dataclass(frozen=True)
class Torn:
    """How many blocks of each kind (of the size that should stay whole) there are, and how many of them were cut."""

    code: tuple[int, int]
    tables: tuple[int, int]
    boundaries: tuple[int, int]  # ends of passages inside a paragraph, and those of them inside a sentence


def leaves(found: Sequence[Block]) -> Iterator[Block]:
    """Paragraphs, code and tables at any depth."""
    for block in found:
        if block.children:
            yield from leaves(block.children)
        else:
            yield block


def torn(document: Document, spans: Sequence[tuple[int, int]], target: int, maximum: int) -> Torn:
    """What the spans (ordered, not overlapping) tear."""
    text = document.text
    ends = sorted({end for _, end in spans} | {start for start, _ in spans})
    counts = {"code": [0, 0], "table": [0, 0], "text": [0, 0]}
    at = 0
    for block in leaves([block for block in blocks(text, document.media_type) if block.kind != "heading"]):
        start = block.start + len(text[block.start : block.end]) - len(text[block.start : block.end].lstrip())
        end = block.start + len(text[block.start : block.end].rstrip())
        while at < len(ends) and ends[at] <= start:
            at += 1
        inside = at
        cuts: list[int] = []
        while inside < len(ends) and ends[inside] < end:
            cuts.append(ends[inside])
            inside += 1
        if block.kind in ("code", "table"):
            if end - start <= maximum:
                counts[block.kind][0] += 1
                counts[block.kind][1] += bool(cuts)
        elif block.kind == "text":
            for cut in cuts:
                if not text[cut - 1].isspace() and text[cut].isspace():
                    continue  # counted once, at the start of the next span
                counts["text"][0] += 1
                whole = SENTENCE_END.search(text, max(start, cut - 300), cut)
                starts_item = text[cut - 1] in "\r\n \t" and ITEM.match(text, cut)
                counts["text"][1] += not whole and not starts_item
    return Torn(*((number, broken) for number, broken in counts.values()))


def check(document: Document, passages: Sequence[Passage], target: int, maximum: int) -> None:
    """Assert every promise that holds for all documents."""
    text = document.text
    position = front_matter(text).end if document.media_type != "text/plain" else 0
    headings = [block for block in blocks(text, document.media_type) if block.kind == "heading"]
    starts = {heading.start for heading in headings}
    for ordinal, passage in enumerate(passages):
        assert passage.ordinal == ordinal
        assert passage.text == text[passage.start : passage.end]
        assert passage.start >= position, "overlap"
        alone = passage.start in starts  # a heading without a body is not cut
        assert 0 < len(passage.text) <= max(target, maximum, 2 * HEADING_CHARS if alone else 0)
        assert re.search(r"[^\W_]", passage.text)
        position = passage.end
    _covered(document, passages, headings)
    _paths(text, passages, headings)


def _covered(document: Document, passages: Sequence[Passage], headings: Sequence[Block]) -> None:
    """What is in no passage is blank, a heading, or markup without a letter or digit."""
    text = document.text
    position = front_matter(text).end if document.media_type != "text/plain" else 0
    taken = sorted([(p.start, p.end) for p in passages] + [(h.start, h.end) for h in headings])
    for start, end in [*taken, (len(text), len(text))]:
        if start > position:
            left = text[position:start]
            assert not has_content(left, document.media_type != "text/plain"), f"in no passage: {left[:200]!r}"
        position = max(position, end)


def _paths(text: str, passages: Sequence[Passage], headings: Sequence[Block]) -> None:
    """A passage has the headings above it, or, where it is made of headings, those above the first of them; and every
    heading is found in a path or in a text."""
    found: set[int] = set()
    path: list[tuple[int, Block]] = []
    at = 0
    for passage in passages:
        while at < len(headings) and headings[at].end <= passage.start:
            _push(path, at, headings[at])
            at += 1
        if at < len(headings) and headings[at].start < passage.end:
            last = bisect_left(headings, passage.end, key=lambda heading: heading.start)
            within = range(at, last)
            assert not any(text[passage.end : headings[index].end].strip() for index in within)
            level = headings[at].level
            assert passage.heading == tuple(block.title for _, block in path if block.level < level)
            found.update(within)
            found.update(index for index, block in path if block.level < level)
        else:
            assert passage.heading == tuple(block.title for _, block in path)
            found.update(index for index, _ in path)
    missing = [headings[index].title for index in range(len(headings)) if index not in found]
    missing = [title for title in missing if re.search(r"[^\W_]", title)]
    assert not missing, f"headings that no passage has: {missing[:5]}"


def _push(path: list[tuple[int, Block]], index: int, block: Block) -> None:
    while path and path[-1][1].level >= block.level:
        path.pop()
    path.append((index, block))
