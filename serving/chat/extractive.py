"""An answer without a language model: the sentences, rows and code of the evidence that meet the question.

A passage that is short is quoted whole. Of a longer one, the parts that share the question's rarer words
are taken in their order; rows of a table come with its header, code and numbered steps stay whole, and a
sentence that ends in a colon brings what it announces.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from knowledge.models.lexical import tokenize
from knowledge.retrieval.retriever import Evidence

Kind: TypeAlias = Literal["sentence", "item", "steps", "row", "code", "heading"]

_WHOLE = 320  # characters: a passage up to this length is quoted whole
_BUDGET = 480  # characters quoted of one longer passage, about
_PASSAGES = 3
_SHORT_TABLE = 10  # rows
_CODE = re.compile(r"(?=.*\d)(?=.*[^\W\d])|^\d{3,}$")  # letters with digits, or a number of some length
_NEXT_BEST = 0.7  # further passages: at least this share of the best one's confidence and of the first one's words
_SURE = 0.75  # confidence from which the best passage is taken to be the answer; below it, others are shown beside it
_NEXT_UNSURE = 0.5  # then: at least this share of the best one's confidence
_HEADING_SHARE = 0.6  # what a word in the heading above counts, against one in the part itself
_ALONGSIDE = 0.55  # further parts of a passage: at least this share of the best part's weight

_FENCE = re.compile(r"^\s*(```|~~~)")
_HEADING = re.compile(r"^\s{0,3}#{1,6}\s|^[一二三四五六七八九十]{1,3}、[^。！？；]{1,30}$")
_TABLE = re.compile(r"^\s*\|.*\|\s*$")
_RULE_ROW = re.compile(r"^[\s|:\-]+$")
_STEP = re.compile(r"^\s{0,3}\d{1,3}[.、)）]\s*\S")
_ITEM = re.compile(r"^\s{0,3}[-*+•]\s+\S")
_INDENTED = re.compile(r"^(?: {2,}|\t)\S")
_COLUMNS = re.compile(r"\S {3,}\S")  # columns of a plain text are set with blanks
_SENTENCE = re.compile(r".+?(?:[。！？!?；…]+[”’」』）)]*|\.(?=\s)|$)", re.DOTALL)
_ANNOUNCES = re.compile(r"[：:]\s*$")
_HAN_BREAK = re.compile(r"(?<=[　-鿿＀-￯])\s*\n\s*(?=[　-鿿＀-￯])")


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a passage that can be quoted by itself. `table` numbers the table that a row belongs to."""

    kind: Kind
    text: str
    header: str = ""
    table: int = -1
    paragraph: int = 0


@dataclass(frozen=True, slots=True)
class Quote:
    """What is quoted of one passage, as Markdown."""

    evidence: Evidence
    text: str


def quotes(question: str, evidence: Sequence[Evidence]) -> list[Quote]:
    """The best of the evidence for a question: at least one quote where there is evidence, at most three."""
    if not evidence:
        return []
    asked = set(tokenize(question))
    surest = max(item.score for item in evidence)
    sure = surest >= _SURE
    chosen: list[tuple[Quote, float]] = []
    seen: set[str] = set()
    for item in evidence if sure else _varied(evidence):
        if len(chosen) == _PASSAGES:
            break
        if chosen and item.score < (_NEXT_BEST if sure else _NEXT_UNSURE) * surest:
            continue
        found = asked & set(tokenize(" ".join((item.title, *item.heading, item.text))))
        weight = float(sum(len(token) for token in found))
        if chosen and sure and weight < _NEXT_BEST * chosen[0][1]:
            continue
        text = excerpt(item.text, asked)
        plain = re.sub(r"\s+", "", text)
        if plain and plain not in seen:
            seen.add(plain)
            chosen.append((Quote(item, text), weight))
    return [quote for quote, _ in chosen]


def _varied(evidence: Sequence[Evidence]) -> list[Evidence]:
    """The first passage of each document, then the others: when it is not clear which document answers."""
    first: dict[str, Evidence] = {}
    for item in evidence:
        first.setdefault(item.document_id or item.uri, item)
    firsts = list(first.values())
    return firsts + [item for item in evidence if not any(item is one for one in firsts)]


def excerpt(text: str, asked: set[str]) -> str:
    """The parts of a passage that meet the question's tokens, as Markdown."""
    parts = split(text)
    body = [part for part in parts if part.kind != "heading"] or parts
    above = _headings_above(parts) if body is not parts else [""] * len(parts)
    weights = _weights(body, above, asked)
    if len(text) <= _WHOLE or len(body) <= 1:
        return _joined(_rows_asked_for(body, weights, asked))
    best = max(weights)
    if best == 0:  # found by meaning only: how it begins says most
        return _joined(_first(body))
    taken: set[int] = set()
    length = 0
    for at in sorted(range(len(body)), key=lambda at: (-weights[at], at)):
        if weights[at] < _ALONGSIDE * best or (taken and length + len(body[at].text) > _BUDGET):
            continue
        group = {at} | set(_companions(body, at))
        length += sum(len(body[i].text) for i in group - taken)
        taken |= group
    return _joined([body[at] for at in sorted(taken)])


def split(text: str) -> list[Part]:
    """The parts of a Markdown or plain text, in order; nothing but blank lines and table rules is lost."""
    parts: list[Part] = []
    lines = text.split("\n")
    at = table = paragraph = 0
    while at < len(lines):
        line = lines[at]
        start = at
        paragraph += 1
        if not line.strip():
            at += 1
        elif _FENCE.match(line):
            at += 1
            while at < len(lines) and not _FENCE.match(lines[at]):
                at += 1
            at += 1
            closed = at <= len(lines)
            parts.append(Part("code", "\n".join(lines[start:at]) + ("" if closed else "\n```")))
        elif _TABLE.match(line):
            while at < len(lines) and _TABLE.match(lines[at]):
                at += 1
            table += 1
            parts += _rows(lines[start:at], table)
        elif _HEADING.match(line):
            at += 1
            parts.append(Part("heading", line.strip()))
        elif _STEP.match(line):
            at = _list_end(lines, at, _STEP)
            parts.append(Part("steps", "\n".join(lines[start:at]).rstrip()))
        elif _ITEM.match(line):
            at += 1
            while at < len(lines) and lines[at].strip() and _INDENTED.match(lines[at]):
                at += 1
            parts.append(Part("item", "\n".join(lines[start:at])))
        elif _INDENTED.match(line):
            while at < len(lines) and _INDENTED.match(lines[at]):
                at += 1
            parts.append(Part("code", "```\n" + "\n".join(lines[start:at]) + "\n```"))
        else:
            while at < len(lines) and lines[at].strip() and (at == start or not _starts_block(lines[at])):
                at += 1
            if sum(1 for column in lines[start:at] if _COLUMNS.search(column)) > 1:
                parts.append(Part("code", "```\n" + "\n".join(lines[start:at]) + "\n```"))
            else:
                parts += _sentences("\n".join(lines[start:at]), paragraph)
    return parts


def _starts_block(line: str) -> bool:
    return any(pattern.match(line) for pattern in (_FENCE, _TABLE, _HEADING, _STEP, _ITEM))


def _list_end(lines: list[str], at: int, item: re.Pattern[str]) -> int:
    while at < len(lines) and (item.match(lines[at]) or _INDENTED.match(lines[at])):
        at += 1
        # A blank line between two steps does not end them.
        if at + 1 < len(lines) and not lines[at].strip() and item.match(lines[at + 1]):
            at += 1
    return at


def _rows(lines: list[str], table: int) -> list[Part]:
    rows = [line.strip() for line in lines]
    if len(rows) > 1 and _RULE_ROW.match(rows[1]):
        header = f"{rows[0]}\n{rows[1]}"
        return [Part("row", row, header, table) for row in rows[2:]] or [Part("row", rows[0], header, table)]
    # The header was cut off with the passage before: the cells as they are.
    return [Part("item", "- " + " — ".join(filter(None, _cells(row)))) for row in rows if not _RULE_ROW.match(row)]


def _cells(row: str) -> Iterable[str]:
    return (cell.replace("\\|", "|").strip() for cell in re.split(r"(?<!\\)\|", row.strip("|")))


def _sentences(text: str, paragraph: int) -> list[Part]:
    joined = _HAN_BREAK.sub("", text)
    found = (match[0].strip() for match in _SENTENCE.finditer(joined))
    return [Part("sentence", sentence, paragraph=paragraph) for sentence in found if sentence]


def _headings_above(parts: list[Part]) -> list[str]:
    above: list[str] = []
    heading = ""
    for part in parts:
        if part.kind == "heading":
            heading = part.text
        else:
            above.append(heading)
    return above


def _weights(parts: list[Part], above: list[str], asked: set[str]) -> list[float]:
    """How much each part shares with the question; words that many parts have count little (as IDF does)."""
    own = [set(tokenize(part.text)) & asked for part in parts]
    led = [set(tokenize(heading)) & asked for heading in above]
    frequency = Counter(token for at in range(len(parts)) for token in own[at] | led[at])

    def weight(tokens: set[str]) -> float:
        return sum(math.log(1 + len(parts) / frequency[token]) for token in tokens)

    return [
        (weight(own[at]) + _HEADING_SHARE * weight(led[at] - own[at])) / (1 + len(part.text) / 600)
        for at, part in enumerate(parts)
    ]


def _companions(parts: list[Part], at: int) -> Iterable[int]:
    """What a part is not understood without: what it announces, or what announces it."""
    if _ANNOUNCES.search(parts[at].text):
        following = range(at + 1, len(parts))
        kind = parts[at + 1].kind if at + 1 < len(parts) else None
        for near in following:
            if parts[near].kind != kind or (kind == "row" and parts[near].table != parts[at + 1].table):
                break
            yield near
            if kind in ("code", "steps", "sentence"):
                break
    elif at and parts[at].kind in ("code", "steps", "item") and _ANNOUNCES.search(parts[at - 1].text):
        yield at - 1


def _rows_asked_for(parts: list[Part], weights: list[float], asked: set[str]) -> list[Part]:
    """All parts, but of a long table only the rows that stand out for the question, where some do.

    A short one stays whole, unless the question names a code of it: the row that decides may share no word with the
    question.
    """
    rows = [at for at, part in enumerate(parts) if part.kind == "row"]
    if len(rows) <= _SHORT_TABLE:
        codes = {token for token in asked if _CODE.search(token)}
        named = {at for at in rows if codes & set(tokenize(parts[at].text))}
        return [part for at, part in enumerate(parts) if part.kind != "row" or at in (named or rows)]
    best = max((weights[at] for at in rows), default=0.0)
    kept = {at for at in rows if weights[at] >= _ALONGSIDE * best}
    return [part for at, part in enumerate(parts) if part.kind != "row" or at in kept]


def _first(parts: list[Part]) -> list[Part]:
    taken: list[Part] = []
    for part in parts:
        if taken and sum(len(p.text) for p in taken) + len(part.text) > _WHOLE:
            break
        taken.append(part)
    return taken


def _joined(parts: list[Part]) -> str:
    blocks: list[str] = []
    before: Part | None = None
    for part in parts:
        if before and part.kind == "row" and before.table == part.table:
            blocks[-1] += f"\n{part.text}"
        elif part.kind == "row":
            same = part.text == part.header.split("\n")[0]
            blocks.append(part.header if same else f"{part.header}\n{part.text}")
        elif before and part.kind == "item" == before.kind:
            blocks[-1] += f"\n{part.text}"
        elif before and part.kind == "sentence" == before.kind and part.paragraph == before.paragraph:
            space = " " if blocks[-1][-1:].isascii() else ""
            blocks[-1] += space + part.text
        else:
            blocks.append(part.text)
        before = part
    return "\n\n".join(blocks)
