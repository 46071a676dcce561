"""HTML -> Markdown of a page's main content, with bounds that hold for malformed pages too."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bs4 import BeautifulSoup, Tag
from markdownify import MarkdownConverter

# BeautifulSoup keeps about 2 kB for each tag, so this many are about 600 MB.
_MAX_TAGS = 300_000
_MAX_DEPTH = 120  # markdownify recurses; a deeper page is read without its structure
_DECLARED = re.compile(rb"<meta[^>]{0,300}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_-]+)", re.IGNORECASE)
_DECLARATION = re.compile(r"<[!?][^>]*>")
_DROPPED = (
    "script", "style", "noscript", "template", "svg", "iframe", "object", "canvas", "nav", "footer", "aside", "form",
    "dialog", "head",
)  # fmt: skip
_INVISIBLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_BLANK = re.compile(r"[ \t]+$|\A\s+|\s+\Z", re.MULTILINE)
# Elements that HTML lets authors leave open: a start tag closes the earlier one, up to the containers named.
_IMPLIED: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "li": (("li",), ("ul", "ol")),
    "dt": (("dt", "dd"), ("dl",)),
    "dd": (("dt", "dd"), ("dl",)),
    "td": (("td", "th"), ("tr", "table")),
    "th": (("td", "th"), ("tr", "table")),
    "tr": (("tr",), ("table", "tbody", "thead", "tfoot")),
    "option": (("option",), ("select",)),
}
_CLOSES_P = frozenset(
    ("p", "div", "ul", "ol", "dl", "table", "pre", "blockquote", "section", "h1", "h2", "h3", "h4", "h5", "h6", "hr")
)


class PageError(ValueError):
    """The page cannot be read. The message completes "<path> ..."."""


@dataclass(frozen=True)
class Page:
    """A page's main content as Markdown, its title ("" if it has none), and a remark for people."""

    text: str
    title: str
    note: str


def declared_encoding(raw: bytes) -> str:
    """The encoding that a page names in a `meta` tag, or ""."""
    match = _DECLARED.search(raw[:4096])
    return match[1].decode() if match else ""


def to_markdown(html: str) -> Page:
    """The main content of a page: `main` or the one `article` if it has them, else the body.

    Scripts, navigation, page header and footer, asides, forms and what is hidden are left out; tables, lists, code and
    links are kept, an image is its alternative text. Raises PageError for a page of more than 300,000 tags.
    """
    html = _well_bounded(html)
    soup = _Soup(html, "html.parser")
    title = _text(soup.find("title"))
    for name in _DROPPED:
        for tag in soup.find_all(name):
            tag.decompose()
    for tag in [tag for tag in soup.find_all(True) if _hidden(tag)]:
        if not tag.decomposed:
            tag.decompose()
    main = _main(soup)
    for header in main.find_all("header") if main.name in ("body", "[document]") else ():
        if not header.decomposed and not header.find("h1"):
            header.decompose()
    heading = _text(main.find("h1"))
    if heading and (not title or heading in title):  # "Refunds - Help centre" is the site's name for "Refunds"
        title = heading
    if _depth(main) > _MAX_DEPTH:
        return Page(main.get_text("\n", strip=True), title, "nested too deeply: read without its structure")
    for image in main.find_all("img"):
        image.replace_with(str(image.get("alt") or ""))
    return Page(_BLANK.sub("", _Converter().convert_soup(main)).strip(), title, "")


def _well_bounded(html: str) -> str:
    """The page without comments and declarations, and with a tail that has no tags if it ends inside of one.

    The standard library's parser looks for the end of each of these anew, so unfinished ones take quadratic time.
    """
    pieces: list[str] = []
    position = 0
    while (start := html.find("<!--", position)) >= 0:
        pieces.append(html[position:start])
        end = html.find("-->", start + 4)
        position = len(html) if end < 0 else end + 3
    html = "".join((*pieces, html[position:]))
    last = html.rfind(">") + 1
    html = _DECLARATION.sub("", html[:last]) + html[last:].replace("<", "&lt;")
    if html.count("<") > _MAX_TAGS:
        raise PageError(f"has more than {_MAX_TAGS:,} tags; split the page")
    return html


class _Soup(BeautifulSoup):
    """BeautifulSoup on the standard library's parser, with the end tags that HTML lets authors leave out."""

    def handle_starttag(self, name: str, *args: Any, **kwargs: Any) -> Any:
        self.endData()  # the text so far belongs to the element that may be closed now
        if name in _CLOSES_P and self.currentTag is not None and self.currentTag.name == "p":
            self._popToTag("p")
        if name in _IMPLIED:
            closed, containers = _IMPLIED[name]
            for tag in self.tagStack[:-20:-1]:
                if tag.name in containers:
                    break
                if tag.name in closed:
                    self._popToTag(tag.name)
                    break
        return super().handle_starttag(name, *args, **kwargs)


class _Converter(MarkdownConverter):
    """Markdown that reads like the page: no escapes, which search would stumble over."""

    def __init__(self) -> None:
        super().__init__(
            heading_style="atx", bullets="-", escape_asterisks=False, escape_underscores=False, escape_misc=False,
            autolinks=False, table_infer_header=True, code_language_callback=_language,
        )  # fmt: skip


def _language(pre: Tag) -> str:
    match = re.search(r"\blanguage-([\w+#-]+)", f"{pre.get('class')} {pre.code.get('class') if pre.code else ''}")
    return match[1] if match else ""


def _text(tag: Any) -> str:
    return " ".join(tag.get_text(" ").split()) if isinstance(tag, Tag) else ""


def _hidden(tag: Tag) -> bool:
    style = tag.get("style")
    return (
        tag.has_attr("hidden")
        or tag.get("aria-hidden") == "true"
        or tag.get("role") in ("navigation", "banner", "contentinfo", "search")
        or (isinstance(style, str) and bool(_INVISIBLE.search(style)))
    )


def _main(soup: BeautifulSoup) -> Tag:
    articles = soup.find_all("article")
    for found in (soup.find("main"), soup.find(role="main"), articles[0] if len(articles) == 1 else None):
        if isinstance(found, Tag) and found.get_text(strip=True):
            return found
    return soup.body or soup


def _depth(root: Tag) -> int:
    deepest = 0
    level: list[Tag] = [root]
    while level:
        deepest += 1
        level = [child for tag in level for child in tag.children if isinstance(child, Tag)]
    return deepest
