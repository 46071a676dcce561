"""The word for a stretch of a document that has a form of its own: a heading, a paragraph, a list, a table, code."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["heading", "text", "code", "table", "html", "list", "item", "quote"]

HEADING_CHARS = 200  # a longer heading is a paragraph that somebody marked up


@dataclass(slots=True)
class Block:
    """A stretch of the text, in characters; `children` are parts of a list, an item or a quote.

    Of a heading: its `level` (1 to 6; 0 for the title line of a plain text) and its `title` without markup.
    """

    kind: Kind
    start: int
    end: int
    level: int = 0
    title: str = ""
    children: list[Block] = field(default_factory=list["Block"])
