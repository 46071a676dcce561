"""A passage in its place: the document it was cut from, the headings above it, and where in the text it stands."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedPassage:
    """`start` and `end` count characters of the document's text; `heading` are the headings above, the outermost first."""

    uri: str
    source: str
    path: str
    title: str
    heading: tuple[str, ...]
    text: str
    start: int
    end: int
