"""Document -> Passages: stretches of its text, with the headings above them and exact offsets.

The rules and what was measured are in `docs/passages.md`. In short: sections first, then whole blocks, then rows,
items and sentences; never inside a sentence that can be kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from knowledge.documents.document import Document
from knowledge.passages.packing import Piece, pack
from knowledge.text.blocks import Block
from knowledge.text.markup import has_content, searchable
from knowledge.text.structure import blocks

RULES = "1"  # raise it when the same text gives other passages, or other indexed text

_SECTION_CHARS = 100_000  # a longer section is packed in parts, which bounds the memory
_JOINED = " > "


@dataclass(frozen=True, slots=True)
class Passage:
    """`text == document.text[start:end]`, in characters; `heading` is the path of headings above it, outermost first.

    `carried` is what a piece of a cut table or code block needs to be understood: the table's header rows, or the
    opening line of the fence.
    """

    ordinal: int
    start: int
    end: int
    heading: tuple[str, ...]
    text: str
    carried: str = ""
    markup: bool = True  # False in plain text, where no sign is markup

    def indexed(self, title: str) -> str:
        """What is embedded and matched: title, heading path, carried rows and text, without the noise of markup."""
        path = self.heading
        if path and _same(path[0], title):
            path = path[1:]
        elif not path and _same(_first_heading(self.text), title):
            title = ""
        body = f"{self.carried}\n{self.text}" if self.carried else self.text
        body = searchable(body) if self.markup else body
        return "\n".join(part for part in (title, _JOINED.join(path), body) if part)


def cut(document: Document, target: int = 480, maximum: int = 2400) -> list[Passage]:
    """The passages of a document, in order: about `target` characters long, never more than `maximum`.

    Every character that is not blank, a heading, front matter or bare markup is in exactly one. Time and memory grow
    with the length of the document only. Raises ValueError for lengths below 1.
    """
    if target < 1 or maximum < 1:
        raise ValueError(f"passage lengths must be positive, not {target} and {maximum}")
    cutter = _Cutter(document.text, target, max(target, maximum), markup=document.media_type != "text/plain")
    for block in blocks(document.text, document.media_type):
        cutter.take(block)
    return cutter.finish()


class _Cutter:
    """Collects the blocks of one section after the other and packs each when the next heading comes."""

    def __init__(self, text: str, target: int, maximum: int, markup: bool) -> None:
        self.text, self.target, self.maximum, self.markup = text, target, maximum, markup
        self.passages: list[Passage] = []
        self.path: list[Block] = []  # the headings above, outermost first
        self.body: list[Block] = []
        self.packed = False  # a part of this section's body is a passage already
        # Headings with nothing below them, of one parent, that become one passage.
        self.bare: tuple[int, int, tuple[str, ...]] | None = None

    def take(self, block: Block) -> None:
        if block.kind != "heading":
            self.body.append(block)
            if block.end - self.body[0].start >= _SECTION_CHARS:
                self._pack()
            return
        self._close(block.level)
        while self.path and self.path[-1].level >= block.level:
            self.path.pop()
        self.path.append(block)

    def finish(self) -> list[Passage]:
        self._close(0)
        self._emit_bare()
        return self.passages

    def _heading(self) -> tuple[str, ...]:
        return tuple(heading.title for heading in self.path)

    def _close(self, level: int) -> None:
        """End the section; `level` is that of the next heading (0 at the end of the document)."""
        self._pack()
        if not self.packed and self.path and level <= self.path[-1].level:
            start, end, parents = self.path[-1].start, self.path[-1].end, self._heading()[:-1]
            if self.bare and self.bare[2] == parents and end - self.bare[0] <= self.target:
                self.bare = (self.bare[0], end, parents)
            else:
                self._emit_bare()
                self.bare = (start, end, parents)
        self.packed = False

    def _pack(self) -> None:
        body, self.body = self.body, []
        if not body:
            return
        pieces = pack(self.text, body, self.target, self.maximum, self.markup)
        if (
            not self.packed
            and len(pieces) == 1
            and not has_content(self.text[pieces[0].start : pieces[0].end], self.markup)
        ):
            return  # only markup: the heading stands for it
        for piece in pieces:
            self._emit(piece, self._heading())
            self.packed = True

    def _emit_bare(self) -> None:
        if self.bare:
            (start, end, parents), self.bare = self.bare, None
            text = self.text[start:end].rstrip()
            if has_content(text, self.markup):
                self._emit(Piece(start, start + len(text)), parents)

    def _emit(self, piece: Piece, heading: tuple[str, ...]) -> None:
        self._emit_bare()
        text = self.text[piece.start : piece.end]
        passage = Passage(len(self.passages), piece.start, piece.end, heading, text, piece.carried, self.markup)
        self.passages.append(passage)


def _same(heading: str, title: str) -> bool:
    return "".join(heading.split()).casefold() == "".join(title.split()).casefold()


def _first_heading(text: str) -> str:
    return re.sub(r"^ {0,3}#{1,6}[ \t]+", "", text.split("\n", 1)[0])
