"""How sure it is that a passage answers a question: the number behind an honest "I don't know".

Four things can be seen without a language model, on one scale for all questions: how much of the question's worth (IDF)
the passage has, in words and in characters; how near the two are for the dense model; and how much of the question the
corpus knows at all. Their weights were chosen on answerable and unanswerable questions of the sample, CMRC2018 and the
TiDB manual; a logistic regression on the same was no better. What they achieve is in `bench/retrieval.py`'s rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from knowledge.models.lexical import CJK_RUN, NAME, characters, name_tokens, tokenize, words
from knowledge.models.lexicon import Lexicon
from knowledge.models.questions import content, is_empty_talk

_BIAS = -3.7
_WEIGHTS = (1.25, 1.25, 4.0, 2.5)
_COSINES = (0.3, 0.8)  # of a question to unrelated passages and to its own, for the corpus' own model


@dataclass(frozen=True, slots=True)
class _Unit:
    """A word or a name of the question: what a passage must have of it, and what it is worth (its IDF, 0 to 1)."""

    whole: tuple[str, ...]  # tokens; the share of them that a passage has counts
    pairs: tuple[str, ...]  # of a Chinese word
    letters: tuple[str, ...]
    worth: float


class Question:
    """A question, taken apart once; then the confidence of any passage.

    `cosines` are the dense model's usual cosine of a text to unrelated passages and to its own.
    """

    def __init__(self, text: str, lexicon: Lexicon, cosines: Sequence[float] = _COSINES) -> None:
        self._low, self._high = cosines[0], max(cosines[1], cosines[0] + 1e-3)
        self._empty = is_empty_talk(text)
        plain = content(text)
        found = [word for word in words(plain) if CJK_RUN.fullmatch(word)]
        names = [name.group().lower() for name in NAME.finditer(plain)]
        self._units = [_unit(word, lexicon) for word in dict.fromkeys([*found, *names])]
        self._worth = sum(unit.worth for unit in self._units)
        # What some passage had when the model was made; a later passage may have more.
        self._known = [any(count > 0 for count in lexicon.counts_of(unit.whole)) for unit in self._units]
        letters = {letter for unit in self._units for letter in unit.letters}
        seen = lexicon.letters_known(letters)
        self._seen = {letter for letter, known in zip(letters, seen, strict=True) if known}

    def confidence(self, passage: str, cosine: float) -> float:
        """0 to 1, of a passage's title, headings and text, and the cosine of its vector to the question's."""
        if self._empty or not self._worth:
            return 0.0
        score = _BIAS + sum(w * x for w, x in zip(_WEIGHTS, self.features(passage, cosine), strict=True))
        return 1 / (1 + math.exp(-score))

    def features(self, passage: str, cosine: float) -> tuple[float, ...]:
        """What the confidence is made of, each 0 to 1, in the order of the weights."""
        tokens, letters = set(tokenize(passage)), set(characters(passage))
        worth = self._worth or 1.0
        whole = sum(unit.worth * _share(unit, tokens) for unit in self._units) / worth
        part = sum(unit.worth * max(_share(unit, tokens), _letters(unit, letters)) for unit in self._units) / worth
        familiar = self._familiar(tokens, letters)
        return whole, part, self._near(cosine) * familiar, familiar

    def _familiar(self, tokens: set[str], letters: set[str]) -> float:
        """How much of the question the corpus or this passage knows, in words and in characters."""
        known = sum(
            unit.worth
            for unit, before in zip(self._units, self._known, strict=True)
            if before or _share(unit, tokens) > 0
        ) / (self._worth or 1.0)
        asked = [letter for unit in self._units for letter in unit.letters]
        if not asked:
            return known
        return (known + sum(one in self._seen or one in letters for one in asked) / len(asked)) / 2

    def _near(self, cosine: float) -> float:
        """The cosine on the scale of the corpus' own model; where a model hardly tells a text's own passage from
        others (an English model on Chinese), it says little either way."""
        scaled = _COSINES[0] + (cosine - self._low) / (self._high - self._low) * (_COSINES[1] - _COSINES[0])
        trust = min(1.0, (self._high - self._low) / 0.3)
        return trust * max(0.0, min(1.0, scaled)) + (1 - trust) * sum(_COSINES) / 2


def _unit(word: str, lexicon: Lexicon) -> _Unit:
    chinese = CJK_RUN.fullmatch(word) is not None
    whole = (("=" + word if len(word) == 2 else word),) if chinese else tuple(name_tokens(word))
    pairs = tuple(word[at : at + 2] for at in range(len(word) - 1)) if chinese else ()
    idf = lexicon.idf(whole)
    return _Unit(whole, pairs, tuple(word) if chinese else (), sum(idf) / len(idf) if idf else 0.0)


def _share(unit: _Unit, tokens: set[str]) -> float:
    exact = sum(token in tokens for token in unit.whole) / max(len(unit.whole), 1)
    if exact or not unit.pairs:
        return exact
    return 0.9 * sum(pair in tokens for pair in unit.pairs) / len(unit.pairs)


def _letters(unit: _Unit, letters: set[str]) -> float:
    return sum(letter in letters for letter in unit.letters) / len(unit.letters) if unit.letters else 0.0
