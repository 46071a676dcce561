"""What markup adds to a text: taken away for search and for headings, never from the text of a passage itself."""

from __future__ import annotations

import re
from collections.abc import Callable

_TAGS = (
    "a|abbr|address|article|aside|b|blockquote|br|caption|center|cite|code|col|colgroup|dd|del|details|div|dl|dt|em|"
    "figcaption|figure|font|footer|form|h[1-6]|header|hr|i|iframe|img|input|ins|kbd|label|li|main|mark|nav|ol|p|pre|"
    "script|section|small|source|span|strong|style|sub|summary|sup|svg|table|tbody|td|tfoot|th|thead|tr|u|ul|video"
)
# Code is kept. A fence that is not closed ends with the text.
_FENCED = re.compile(
    r"^[ \t>]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)*(?P<fence>`{3,}|~{3,})[^\n]*"
    r"(?:\n(?s:.*?)(?:^[ \t>]*(?P=fence)[^\n]*$|\Z)|\Z)",
    re.MULTILINE,
)
_INLINE = re.compile(r"(?<!`)(?P<tick>`{1,3})(?!`)[^`\n]+(?P=tick)(?!`)")
# Only tags that HTML or a component has: `<host>` is a placeholder that people search for.
_GONE = re.compile(
    r"<!--(?s:.*?)(?:-->|\Z)|\{\{[<%][^{}\n]*[>%]\}\}|<https?://[^<>\s]*>"
    rf"|</?(?i:{_TAGS})(?:\s[^<>]*|/)?>|</?[A-Z][A-Za-z]*(?:\s[^<>]*|/)?>"
    r"|^[ \t>]*+\|?[ \t]*+:?-{2,}+:?[ \t]*+(?:\|[ \t]*+:?-++:?[ \t]*+)*+\|?[ \t]*(?:\n|\Z)"  # the rule below a table's header
    r"|^[ \t]*\[[^\]\n]+\]:[ \t]*\S+[^\n]*$",  # the target of a reference
    re.MULTILINE,
)
_TARGET = r"(?:\([^()\n]*(?:\([^()\n]*\)[^()\n]*)*\)|\[[^\[\]\n]*\])"
_IMAGE = re.compile(rf"!\[([^\[\]\n]*)\]{_TARGET}")
_LINK = re.compile(rf"\[([^\[\]\n]*)\]{_TARGET}")
_SIGN = re.compile(
    r"^[ \t>]*#{1,6}[ \t]+|^[ \t]*(?:>[ \t]?)+|\*\*|(?<![^\W_])__(?=\w)|(?<=\w)__(?![^\W_])"
    r"|\\(?=[\\`*_{}\[\]()#+\-.!|<>~])",
    re.MULTILINE,
)
_PIPE = re.compile(r"(?<!\\)\|")
_SPACES = re.compile(r"[ \t]{2,}")
_EDGES = re.compile(r"^[ \t]++|[ \t]+$", re.MULTILINE)
_LINES = re.compile(r"\n{3,}")
WORD = re.compile(r"[^\W_]")  # a letter or a digit


def searchable(text: str) -> str:
    """Markdown without what only adds noise to search: link and image targets, tags, comments, table rules and pipes.

    Code is kept as it is. The result is for embedding and matching; it has no offsets. Meant for texts of a passage's
    size: the time can grow faster than the length.
    """
    return _outside(_FENCED, text, _prose).strip()


def has_content(text: str, markup: bool = True) -> bool:
    """True if a letter or a digit is in the text, apart from markup unless the text is plain (`markup` False)."""
    return bool(WORD.search(text)) and (not markup or bool(WORD.search(searchable(text))))


def plain(heading: str) -> str:
    """A heading as one line of plain text, without links, images, emphasis, tags and `{#anchors}`."""
    heading = re.sub(r"\{#[^{}\s]*\}\s*$", "", heading)
    return " ".join(searchable(heading).replace("`", "").split())


def _outside(code: re.Pattern[str], text: str, change: Callable[[str], str]) -> str:
    """The text with `change` made to everything that is not code."""
    parts: list[str] = []
    position = 0
    for match in code.finditer(text):
        parts += (change(text[position : match.start()]), match[0])
        position = match.end()
    return "".join((*parts, change(text[position:])))


def _prose(text: str) -> str:
    # Links first: what they are put on is often inline code.
    text = _outside(_INLINE, _LINK.sub(r"\1", _IMAGE.sub(r"\1", text)), _strip)
    return _LINES.sub("\n\n", _EDGES.sub("", text))


def _strip(text: str) -> str:
    text = _PIPE.sub(" ", _GONE.sub(" ", _SPACES.sub(" ", text)))
    return _SPACES.sub(" ", _SIGN.sub("", text))
