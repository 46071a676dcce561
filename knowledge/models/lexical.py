"""The lexical half of retrieval: words of Chinese and English text, and BM25 as sparse vectors.

Words are cut here and not by the vector store, because its own tokenizers drop tokens that are all digits (10086, an
order number), do not fold Traditional to Simplified Chinese, and know no Chinese words.
"""

from __future__ import annotations

import functools
import importlib
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

RULES = "1"
"""Raise it when the same text gives other tokens or other values: it is part of the fingerprint."""

# Chosen on a third of the questions of CMRC2018 (passages of 480 and of 80 characters) and of the TiDB manual's FAQ:
# the first hardly cares, the second wants a lower k, the third a higher b.
K = 0.9
B = 0.6

_CJK = "々〇㐀-䶿一-鿿豈-﫿぀-ヿㇰ-ㇿ가-힣\U00020000-\U0003ffff"
_LETTER = rf"[^\W_{_CJK}]"
CJK_RUN = re.compile(rf"[{_CJK}]+")
# A name, a number or a code with what holds its parts together: QH-40302, orders.batchQuery, /v1/orders, C++.
NAME = re.compile(rf"{_LETTER}(?:{_LETTER}|[._\-/:@'’+&](?={_LETTER})|_+(?={_LETTER}))*(?:\+\+|#(?![\w]))?")
_PART = re.compile(rf"{_LETTER}+(?:\+\+|#)?")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[^\W\d])(?=\d)|(?<=\d)(?=[^\W\d])")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_JOINERS = re.compile(r"[-_]")
_LONGEST = 64  # a longer name (a signature, a URL with parameters) is matched by its parts only


@dataclass(frozen=True, slots=True)
class SparseVector:
    """A sparse vector: `indices` (unsigned 32-bit, distinct, ascending) and their `values`."""

    indices: list[int]
    values: list[float]


@functools.cache
def _simplified() -> Callable[[str], str]:
    opencc: Any = importlib.import_module("opencc")  # its types are incomplete
    return opencc.OpenCC("t2s").convert


@functools.cache
def _segmenter() -> Any:
    import rjieba

    return rjieba.Jieba()


def words(text: str) -> list[str]:
    """The text in words, nothing left out: jieba's precise mode."""
    return _segmenter().cut(text)


def normalise(text: str) -> str:
    """The text with compatibility forms, Traditional characters and grouped digits made plain; case is kept."""
    # Half of a surrogate pair, as cut JSON has it, cannot be handed on; NUL ends a text early in C.
    whole = text.encode("utf-8", "replace").decode().replace("\0", " ")
    return _THOUSANDS.sub("", _simplified()(unicodedata.normalize("NFKC", whole)))


def tokenize(text: str) -> list[str]:
    """The tokens of a text, in no promised order, repeated as often as they occur.

    Chinese: the words of jieba's search mode, and all pairs of neighbouring characters. A pair that is also a word is
    two tokens, and a word of one character is one too (each measured better than without: recall@1 of CMRC2018's
    short passages 70.9 → 71.8 → 72.6 %). Names, numbers and codes: whole, and in parts (`orders.batchQuery` also gives `orders`,
    `batchquery`, `batch` and `query`). English plurals and possessives are folded.
    """
    plain = normalise(text)
    tokens: list[str] = []
    runs = CJK_RUN.findall(plain)
    for run in runs:
        tokens.extend([run[at : at + 2] for at in range(len(run) - 1)])
    if runs:
        for word in _segmenter().cut_for_search("\n".join(runs)):
            if len(word) == 2:
                tokens.append("=" + word)
            elif len(word) > 2 or (word != "\n" and not word.isspace()):
                tokens.append(word)
    for name in NAME.findall(plain):
        tokens.extend(name_tokens(name))
    return tokens


def characters(text: str) -> list[str]:
    """The Chinese characters of a text, Simplified."""
    return [one for run in CJK_RUN.findall(normalise(text)) for one in run]


def name_tokens(name: str) -> Iterable[str]:
    """The tokens of one name, number or code: whole, joined, and its parts."""
    parts = _PART.findall(name)
    whole = name.lower()
    if len(parts) == 1 and not _CAMEL.search(name):
        return (_singular(whole),)
    found: dict[str, None] = {}
    if len(whole) <= _LONGEST:
        found[_singular(whole)] = None
        if _JOINERS.search(whole):
            found[_JOINERS.sub("", whole)] = None  # QH40302 finds QH-40302, 4008001234 finds 400-800-1234
    for part in parts:
        small = part.lower()
        pieces = _CAMEL.split(part)
        if len(small) > 1:
            found[_singular(small)] = None
        if len(pieces) > 1:
            found.update((_singular(piece.lower()), None) for piece in pieces if len(piece) > 1)
    return found


def _singular(word: str) -> str:
    if word.endswith(("'s", "’s")):
        return word[:-2]
    if len(word) <= 3 or not word.endswith("s") or word.endswith(("ss", "us", "is")) or not word.isalpha():
        return word
    return word[:-3] + "y" if word.endswith("ies") and len(word) > 4 else word[:-1]


def index_of(token: str) -> int:
    """The number of a token in sparse vectors: a 32-bit hash, the same on every machine and in every process."""
    return zlib.crc32(token.encode())


@dataclass(frozen=True, slots=True)
class Bm25:
    """BM25 (Robertson and Zaragoza, 2009) split in two: these values, times the vector store's IDF modifier.

    `average_length` is in tokens and fixed with the model, so that a passage has one vector for ever.
    """

    k: float = K
    b: float = B
    average_length: float = 400.0

    def passage(self, tokens: list[str]) -> SparseVector:
        """The saturated frequency of each token: tf (k + 1) / (tf + k (1 - b + b length / average))."""
        norm = self.k * (1 - self.b + self.b * len(tokens) / max(self.average_length, 1.0))
        return _vector({token: tf * (self.k + 1) / (tf + norm) for token, tf in Counter(tokens).items()})

    def query(self, tokens: Iterable[str] | Mapping[str, float]) -> SparseVector:
        """Each token of a question once, with its weight (`knowledge.models.questions.question_tokens`), or with 1."""
        weights: dict[str, float] = dict(tokens) if isinstance(tokens, Mapping) else dict.fromkeys(tokens, 1.0)  # type: ignore[arg-type]
        return _vector(weights)


def _vector(values: dict[str, float]) -> SparseVector:
    by_index: dict[int, float] = {}
    for token, value in values.items():
        index = index_of(token)
        by_index[index] = max(value, by_index.get(index, 0.0))
    ordered = sorted(by_index)
    return SparseVector(ordered, [by_index[index] for index in ordered])
