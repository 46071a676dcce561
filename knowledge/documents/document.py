"""One file in any format -> a Document: its text, title and media type.

Offsets of passages are offsets into `Document.text`. For Markdown and plain text that is the decoded file, unchanged
except that a byte order mark is left out (line ends stay as they are); for HTML it is a Markdown rendering of the
page's main content.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from knowledge.documents.encodings import NotText, decode
from knowledge.documents.sources import IntakeError
from knowledge.documents.webpages import PageError, declared_encoding, to_markdown
from knowledge.text.markdown import front_matter
from knowledge.text.markup import plain
from knowledge.text.structure import blocks

PARSER = "1"  # raise it when the same bytes give another text

MARKDOWN, PLAIN, HTML = "text/markdown", "text/plain", "text/html"
_TITLE_CHARS = 200
_TITLE_WITHIN = 20_000  # a heading further down is not the title
_FORBIDDEN = re.compile("[\0\ud800-\udfff]")  # PostgreSQL stores neither


class UnreadableDocument(IntakeError):
    """The bytes of one file give no document. `reason` is one sentence; an earlier version stays as it is."""


@dataclass(frozen=True)
class Document:
    """A text to cut into passages. `sha256` (hexadecimal) is that of the file's bytes; `note` is "" or one remark."""

    text: str
    title: str
    media_type: str
    sha256: str
    encoding: str
    note: str


def parse(raw: bytes, path: str) -> Document:
    """The document in the bytes of the file `path`, whose suffix tells the format.

    Raises UnreadableDocument for what is not text, is damaged, or has nothing to read.
    """
    if not raw.strip():
        raise UnreadableDocument(f"{path} is empty")
    media_type = _media_type(path)
    try:
        decoded = decode(raw, declared_encoding(raw) if media_type == HTML else "")
        text, title, note = decoded.text, "", decoded.note
        if media_type == HTML:
            page = to_markdown(text)
            text, title = page.text, page.title
            note = "; ".join(part for part in (note, page.note) if part)
    except (NotText, PageError) as error:
        raise UnreadableDocument(f"{path} {error}") from None
    except (RecursionError, ValueError, ArithmeticError, LookupError, AssertionError) as error:
        raise UnreadableDocument(f"{path} cannot be parsed ({type(error).__name__}: {str(error)[:100]})") from None
    text = _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
    if not text.strip("\N{ZERO WIDTH NO-BREAK SPACE} \t\r\n\f\v\u3000\xa0"):
        raise UnreadableDocument(f"{path} has no text")
    title = title or _title(text, media_type) or PurePosixPath(path).stem or path
    title = _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", title)
    return Document(text, title[:_TITLE_CHARS], media_type, hashlib.sha256(raw).hexdigest(), decoded.encoding, note)


def _media_type(path: str) -> str:
    suffix = PurePosixPath(path).suffix.lower()
    return {".txt": PLAIN, ".html": HTML, ".htm": HTML}.get(suffix, MARKDOWN)


def _title(text: str, media_type: str) -> str:
    """The title that the text gives itself: in its front matter, else its first heading of the first level."""
    if media_type == MARKDOWN and (title := plain(front_matter(text).title)):
        return title
    top = 0 if media_type == PLAIN else 1
    headings = (
        block for block in blocks(text[:_TITLE_WITHIN], media_type) if block.kind == "heading" and block.level == top
    )
    return next((heading.title for heading in headings), "")
