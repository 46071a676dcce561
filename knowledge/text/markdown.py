"""Markdown -> blocks. markdown-it-py parses (blocks only); its line numbers become character offsets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from markdown_it import MarkdownIt
from markdown_it.token import Token

from knowledge.text.blocks import HEADING_CHARS, Block, Kind
from knowledge.text.markup import plain

# The parser needs about a kilobyte for each line: a long text is parsed in parts, so that 20 MB stay below 1 GB.
_PART = 100_000
_NESTING = 24  # levels of tokens; what is nested deeper is text
_LINE_END = re.compile(r"\r\n?|\n")
_FRONT = re.compile(r"\A---[ \t]*(?:\r\n?|\n)(.*?)^(?:---|\.\.\.)[ \t]*(?:\r\n?|\n|\Z)", re.DOTALL | re.MULTILINE)
_FRONT_CHARS = 20_000
_KEY = re.compile(r"^[A-Za-z_][\w-]*[ \t]*:", re.MULTILINE)
_TITLE = re.compile(r"^title[ \t]*:[ \t]*([^\r\n]*)((?:(?:\r\n?|\n)[ \t]+[^\r\n]*)*)", re.MULTILINE)
_ATX = re.compile(r" {0,3}#{1,6}(?:[ \t]+|\Z)")
_CLOSING = re.compile(r"(?:\A|[ \t])#+[ \t]*\Z")
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})", re.MULTILINE)
_BREAK = re.compile(r"(?:\r\n|\n|\r)(?=[ \t]*(?:\r\n|\n|\r))|(?:\r\n|\n|\r)(?=#{1,6}[ \t])")


@dataclass(frozen=True)
class FrontMatter:
    """The YAML at the head of a Markdown file: where it ends (0 if there is none) and its title."""

    end: int
    title: str


def front_matter(text: str) -> FrontMatter:
    """What is between `---` lines at the very start, if it looks like keys and values."""
    match = _FRONT.match(text[:_FRONT_CHARS])
    if not match or (match[1].strip() and not _KEY.search(match[1])):
        return FrontMatter(0, "")
    title = _TITLE.search(match[1])
    return FrontMatter(match.end(), _value(title[1].strip(), title[2]) if title else "")


def _value(first: str, more: str) -> str:
    """A YAML scalar on one or several lines: plain, quoted, or a block."""
    if first[:1] in ("|", ">"):
        first = ""
    value = " ".join((first, *more.split())).strip()
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1].replace("''", "'") if value[0] == "'" else re.sub(r"\\(.)", r"\1", value[1:-1])
    return re.sub(r"(?:^|\s+)#.*$", "", value)


def markdown_blocks(text: str) -> Iterator[Block]:
    """The outermost blocks of a Markdown text (CommonMark with tables) in order; front matter is left out."""
    start = front_matter(text).end
    while start < len(text):
        end = _part_end(text, start)
        yield from _parse(text, start, end)
        start = end


def _part_end(text: str, start: int) -> int:
    """Where to stop parsing: the end, or a blank line or heading outside of a fence, else just a line end."""
    if len(text) - start <= _PART:
        return len(text)
    opened: re.Match[str] | None = None
    inside: list[tuple[int, int]] = []
    for fence in _FENCE.finditer(text, start, start + _PART):
        if opened is None:
            opened = fence
        elif fence[1].startswith(opened[1]):
            inside.append((opened.start(), fence.end()))
            opened = None
    limit = opened.start() if opened and opened.start() > start + _PART // 2 else start + _PART
    best = 0
    for match in _BREAK.finditer(text, start + _PART // 2, limit):
        while inside and inside[0][1] <= match.start():
            inside.pop(0)
        if not inside or match.start() < inside[0][0]:
            best = match.end()
    if best > start:
        return best
    line = max(text.rfind("\n", start, limit), text.rfind("\r", start, limit - 1))
    if line < start:  # one line of this length: take it whole
        found = _LINE_END.search(text, limit - 1)
        return found.end() if found else len(text)
    return line + 1


@cache
def _parser() -> MarkdownIt:
    # Link references stay paragraphs: as definitions they would be in no block.
    parser = MarkdownIt("commonmark", {"maxNesting": _NESTING}).enable("table").disable("reference")
    parser.core.ruler.enableOnly(["normalize", "block"])
    return parser


def _parse(text: str, start: int, end: int) -> Iterator[Block]:
    part = text[start:end]
    lines = [start, *(start + match.end() for match in _LINE_END.finditer(part))]
    if lines[-1] != end:
        lines.append(end)
    last = len(lines) - 1
    position = start
    for block in _tree(_parser().parse(part), lambda line: lines[min(line, last)]):
        if text[position : block.start].strip():  # no rule took these lines
            yield Block("text", position, block.start)
        position = max(position, block.end)
        yield _named(text, block) if block.kind == "heading" else block
    if text[position:end].strip():
        yield Block("text", position, end)


_CONTAINERS: dict[str, Kind] = {
    "bullet_list_open": "list",
    "ordered_list_open": "list",
    "list_item_open": "item",
    "blockquote_open": "quote",
}
_LEAVES: dict[str, Kind] = {
    "heading_open": "heading",
    "paragraph_open": "text",
    "table_open": "table",
    "fence": "code",
    "code_block": "code",
    "html_block": "html",
    "hr": "text",
}


def _tree(tokens: list[Token], offset: Callable[[int], int]) -> list[Block]:
    root: list[Block] = []
    opened: list[Block] = []
    for token in tokens:
        kind = _CONTAINERS.get(token.type)
        if token.nesting < 0 and token.type.replace("_close", "_open") in _CONTAINERS:
            opened.pop()
        elif (kind := kind or _LEAVES.get(token.type)) and token.map:
            block = Block(kind, offset(token.map[0]), offset(token.map[1]))
            if kind == "heading":
                block.level = int(token.tag[1])
                block.kind = "text" if opened else "heading"
            (opened[-1].children if opened else root).append(block)
            if token.type in _CONTAINERS:
                opened.append(block)
    return root


def _named(text: str, block: Block) -> Block:
    """A heading with its title, or a paragraph where it has none, several lines, or the length of a paragraph."""
    source = text[block.start : block.end].strip()
    if len(source) <= 2 * HEADING_CHARS:
        lines = _LINE_END.split(source)
        if _ATX.match(source):
            title = _CLOSING.sub("", _ATX.sub("", lines[0], count=1)) if len(lines) == 1 else ""
        else:  # underlined
            title = lines[0] if len(lines) == 2 else ""
        block.title = plain(title)
    if not block.title or len(block.title) > HEADING_CHARS:
        block.kind, block.title = "text", ""
    return block
