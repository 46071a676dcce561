"""Blocks of one section -> stretches of about the length asked for, cut where it hurts least.

Paragraphs, lists and quotes are kept whole up to `target` characters, tables, code and HTML up to `maximum`; what is
longer is cut between rows, lines, items or sentences. A line that leads in ("as follows:") stays with what it leads to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from knowledge.text.blocks import Block
from knowledge.text.markup import WORD, has_content
from knowledge.text.sentences import parts, sentences

_SENTENCE_FACTOR = 2  # a sentence is cut when it is longer than this many times the target
_TAIL = 5  # the last piece joins the one before when it is shorter than a fifth of the target,
_STRETCH = 1.25  # and both together are not longer than this many times the target
_CARRIED_CHARS = 1_000  # longer header rows are not repeated
_CHECKED_CHARS = 2_000  # a longer block is taken to have content
_LEAD_CHARS = 60  # what a lead-in ends with is looked for in so many last characters

_LEAD = re.compile(
    r"(?:[:：]|(?:如下|下表|以下|下面|following|below)[^。.!！?？\n]{0,30}[。.]?)[\s>*_]*\Z", re.IGNORECASE
)
_ROW = re.compile(r"[^\n\r]*(?:\r\n?|\n|\Z)")
_RULE = re.compile(r"[ \t>]*+\|?[ \t]*+:?-++:?[ \t]*+(?:\|[ \t]*+:?-++:?[ \t]*+)*+\|?\s*\Z")
_FENCE = re.compile(r"[ \t>]*+(?:[-*+]|\d{1,9}[.)])?[ \t]*+(?:`{3,}|~{3,})")
_TABLE, _TABLE_END = re.compile(r"<table\b", re.IGNORECASE), re.compile(r"</table\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Piece:
    """text[start:end], and what it carries over from the block that it was cut from."""

    start: int
    end: int
    carried: str = ""
    verbatim: bool = False  # cut out of code: its first line's indentation counts


def pack(text: str, blocks: list[Block], target: int, maximum: int, markup: bool = True) -> list[Piece]:
    """The pieces of consecutive blocks, in order. `target` <= `maximum`, both in characters; no piece is longer than
    `maximum`, nor without a letter or digit. Only what has no letter or digit, or is bare markup that fits nowhere, is in none of them."""
    packer = _Packer(text, target, maximum, markup)
    packer.siblings(blocks)
    packer.flush()
    return packer.tidied()


class _Packer:
    def __init__(self, text: str, target: int, maximum: int, markup: bool) -> None:
        self.text, self.target, self.maximum, self.markup = text, target, maximum, markup
        self.pieces: list[Piece] = []
        self.start = self.end = -1  # the piece being filled

    def siblings(self, blocks: list[Block]) -> None:
        for block in self._led_in(self._clothed(self._whole_tables(blocks))):
            self._take(block)

    def flush(self) -> None:
        if self.start >= 0:
            self._append(Piece(self.start, self.end))
        self.start = self.end = -1

    def tidied(self) -> list[Piece]:
        """The pieces, with those without a letter or digit, and a short last one, joined to their neighbours."""
        kept: list[Piece] = []
        waiting: Piece | None = None  # signs without a piece before them
        for piece in self.pieces:
            if waiting and piece.end - waiting.start <= self.maximum:
                piece = replace(piece, start=waiting.start)
            waiting = None
            if self._reads(piece):
                kept.append(piece)
            elif kept and piece.end - kept[-1].start <= self.maximum:
                kept[-1] = replace(kept[-1], end=piece.end)
            else:
                waiting = piece
        if len(kept) > 1 and not (kept[-1].carried or kept[-2].carried):
            last, before = kept[-1], kept[-2]
            short = last.end - last.start < self.target / _TAIL
            if short and last.end - before.start <= min(self.maximum, self.target * _STRETCH):
                kept[-2:] = [replace(before, end=last.end)]
        return kept

    def _reads(self, piece: Piece) -> bool:
        tags = self.markup and self.text.startswith("<", piece.start)
        return has_content(self.text[piece.start : piece.end], tags)

    def _take(self, block: Block) -> None:
        length = block.end - block.start
        if block.kind == "html" and not block.level and length > self.maximum and self._bare(block):
            return
        if length <= self._whole(block):
            self._add(block.start, block.end)
        elif block.kind in ("code", "table", "html"):
            self.flush()
            self._rows(block)
        elif block.children:
            self.siblings(self._children(block))
        else:
            for start, end in sentences(self.text, block.start, block.end):
                if end - start <= min(self.maximum, self.target * _SENTENCE_FACTOR):
                    self._add(start, end)
                else:
                    for part in parts(self.text, start, end, self.target):
                        self._add(*part)

    def _add(self, start: int, end: int) -> None:
        if self.text[start:end].isspace():  # part of a long blank stretch, which ends a piece or begins none
            return
        if self.start >= 0 and self._trimmed(self.start, end) > self.target:
            self.flush()
        if self.start < 0:
            self.start = start
        self.end = end

    def _append(self, piece: Piece) -> None:
        start, end = piece.start, piece.end
        while end > start and self.text[end - 1].isspace():
            end -= 1
        first = start
        while first < end and self.text[first].isspace():
            first += 1
        if piece.verbatim:  # only blank lines go
            first = max(start, self.text.rfind("\n", start, first) + 1)
        if first < end:
            self.pieces.append(replace(piece, start=first, end=end))

    def _trimmed(self, start: int, end: int) -> int:
        while end > start and self.text[end - 1].isspace():
            end -= 1
        return end - start

    def _whole(self, block: Block) -> int:
        """The length up to which a block is not cut."""
        return self.maximum if block.kind in ("code", "table", "html") else self.target

    def _rows(self, block: Block) -> None:
        """A long table or code block in pieces of even length, cut between its lines."""
        rows = [
            part
            for row in _ROW.finditer(self.text, block.start, block.end)
            for part in parts(self.text, row.start(), row.end(), self.maximum)
        ]
        length = block.end - block.start
        aim = length / -(-length // self.maximum)
        carried = self._carried(rows, block)
        begin = rows[0][0]
        for index, (_, end) in enumerate(rows):
            following = rows[index + 1][1] if index + 1 < len(rows) else end
            if end - begin >= aim or following - begin > self.maximum or index + 1 == len(rows):
                self._append(Piece(begin, end, carried if begin > block.start else "", block.kind == "code"))
                begin = end

    def _carried(self, rows: list[tuple[int, int]], block: Block) -> str:
        lines = [self.text[start:end] for start, end in rows[:50]]
        found = ""
        if block.kind == "code":
            found = next((line.strip() for line in lines if _FENCE.match(line)), "")
        elif block.kind == "table":
            heads = (at for at in range(1, len(lines)) if "-" in lines[at] and _RULE.match(lines[at]))
            found = next(("".join(lines[at - 1 : at + 1]).strip() for at in heads), "")
        return found if len(found) <= _CARRIED_CHARS else ""

    def _children(self, block: Block) -> list[Block]:
        """The parts of a container, with what was joined to its head, and no gaps."""
        children = [*block.children]
        if block.start < children[0].start:
            children.insert(0, Block("text", block.start, children[0].start))
        ends = [*(child.start for child in children[1:]), block.end]
        return [replace(child, end=end) for child, end in zip(children, ends, strict=True) if end > child.start]

    def _whole_tables(self, blocks: list[Block]) -> list[Block]:
        """A table of HTML tags with blank lines between them is one block."""
        closing = [
            index for index, block in enumerate(blocks)
            if block.kind == "html" and _TABLE_END.search(self.text, block.start, block.end)
        ]  # fmt: skip
        if not closing:
            return blocks
        merged: list[Block] = []
        skip = -1
        for index, block in enumerate(blocks):
            if index <= skip:
                continue
            while closing and closing[0] < index:
                closing.pop(0)
            opens = block.kind == "html" and bool(_TABLE.search(self.text, block.start, block.end))
            if opens and closing and closing[0] > index:
                skip = closing[0]
                block = Block("html", block.start, blocks[skip].end)
            merged.append(block)
        return merged

    def _clothed(self, blocks: list[Block]) -> Iterator[Block]:
        """Bare tags, comments, shortcodes and signs joined to the block that they open or close."""
        opening: Block | None = None
        held: Block | None = None
        for block in blocks:
            if self._bare(block):
                closes = self.text.startswith(("</", "---", "***"), block.start) and held is not None
                if closes and held is not None and opening is None and block.end - held.start <= self._whole(held):
                    held = replace(held, end=block.end)
                elif opening is None or block.end - opening.start > self.target:
                    opening = block
                else:
                    opening = replace(opening, end=block.end)
                continue
            if held is not None:
                yield held
            held = block
            if opening is not None and block.end - opening.start <= self._whole(block):
                held = replace(block, start=opening.start)
            opening = None
        if held is not None:
            if opening is not None and opening.end - held.start <= self._whole(held):
                held = replace(held, end=opening.end)
            yield held
        elif opening is not None:
            yield opening

    def _bare(self, block: Block) -> bool:
        if block.kind not in ("html", "text"):
            return False
        text, start, end = self.text, block.start, block.end
        if not self.markup:
            return WORD.search(text, start, end) is None
        if end - start > _CHECKED_CHARS:
            return text.startswith("<!--", start) and text.find("-->", start, end) >= end - 4
        if block.kind == "text" and text[start] not in "<{[!" and WORD.search(text, start, end):
            return False
        return not has_content(text[start:end])

    def _led_in(self, blocks: Iterator[Block]) -> Iterator[Block]:
        """A lead-in, or the last sentence of a long one, joined to the table, code or list after it, where they fit."""
        lead: Block | None = None
        for block in blocks:
            if lead is not None:
                if block.kind in ("code", "table", "html", "list", "item", "quote"):
                    whole = self._whole(block)
                    if lead.end - lead.start > self.target // 2:
                        *_, (last, _end) = sentences(self.text, lead.start, lead.end)
                        if last > lead.start:
                            yield Block("text", lead.start, last)
                            lead = Block("text", last, lead.end)
                    if block.end - lead.start <= whole or block.end - block.start > whole:
                        block = replace(block, start=lead.start)
                    else:
                        yield lead
                else:
                    yield lead
                lead = None
            if block.kind == "text" and self._leads(block):
                lead = block
            else:
                yield block
        if lead is not None:
            yield lead

    def _leads(self, block: Block) -> bool:
        """It ends like "as follows:", or is short and ends like no sentence."""
        if _LEAD.search(self.text, max(block.start, block.end - _LEAD_CHARS), block.end):
            return True
        text = self.text[block.start : block.end].strip() if block.end - block.start <= _LEAD_CHARS else ""
        return text != "" and text[-1] not in "。！？；…!?.;"
