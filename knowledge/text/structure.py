"""The structure of a document's text: blocks with offsets, whichever way they were written."""

from __future__ import annotations

from collections.abc import Iterator

from knowledge.text.blocks import Block
from knowledge.text.markdown import markdown_blocks
from knowledge.text.plain import plain_blocks


def blocks(text: str, media_type: str) -> Iterator[Block]:
    """The blocks of the outermost level in order, without front matter.

    They do not overlap; between them is only what is blank, and the rulers of a plain text. Only `text/plain` is not read as Markdown.
    """
    return plain_blocks(text) if media_type == "text/plain" else markdown_blocks(text)
