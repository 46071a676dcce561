"""Options of full-text indexes: tokenizer, stopwords, stemmer, scoring.

Languages are named as Qdrant names them, or by their code.
"""

from typing import Any

import qdrant_edge as edge

from embedded.qdrant.errors import bad_request
from embedded.qdrant.settings.convert import fields, text
from embedded.qdrant.settings.validate import shortened

Object = dict[str, Any]

_TOKENIZERS = {
    "prefix": edge.TokenizerType.Prefix,
    "whitespace": edge.TokenizerType.Whitespace,
    "word": edge.TokenizerType.Word,
    "multilingual": edge.TokenizerType.Multilingual,
    "code": edge.TokenizerType.Code,
}
_CODES = {
    "ar": "arabic",
    "az": "azerbaijani",
    "bn": "bengali",
    "ca": "catalan",
    "da": "danish",
    "de": "german",
    "el": "greek",
    "en": "english",
    "es": "spanish",
    "eu": "basque",
    "fi": "finnish",
    "fr": "french",
    "he": "hebrew",
    "hi-en": "hinglish",
    "hu": "hungarian",
    "hy": "armenian",
    "id": "indonesian",
    "it": "italian",
    "jp": "japanese",
    "kk": "kazakh",
    "ne": "nepali",
    "nl": "dutch",
    "no": "norwegian",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sl": "slovene",
    "sv": "swedish",
    "ta": "tamil",
    "tg": "tajik",
    "tr": "turkish",
    "zh": "chinese",
}


def tokenizer(value: Any, what: str) -> edge.TokenizerType:
    """The engine's tokenizer."""
    if not isinstance(value, str) or value not in _TOKENIZERS:
        raise bad_request(f"{what} is one of {', '.join(_TOKENIZERS)}, not {shortened(value)}")
    return _TOKENIZERS[value]


def stopwords(value: Any, what: str) -> edge.Language | edge.StopwordsSet:
    """A language, or an object with `languages` and `custom` words, in the engine's form."""
    if isinstance(value, str):
        return _language(value, edge.Language, what)
    given = fields(value, frozenset({"languages", "custom"}), what)
    return edge.StopwordsSet(
        {_language(name, edge.Language, what) for name in _texts(given.get("languages", []), what)},
        set(_texts(given.get("custom", []), what)),
    )


def printed_stopwords(value: Any) -> Any:
    """What `stopwords` took, as Qdrant prints it: sorted, with the languages' names."""
    if isinstance(value, str):
        return _name(value)
    given = {key: words for key, words in value.items() if words is not None}
    if "languages" in given:
        given["languages"] = sorted({_name(language) for language in given["languages"]})
    if "custom" in given:
        given["custom"] = sorted(set(given["custom"]))
    return given


def stemmer(value: Any, what: str) -> edge.SnowballParams | edge.DisabledStemmer:
    """`{"type": "snowball", "language": ...}` or `{"type": "none"}` in the engine's form."""
    given = fields(value, frozenset({"type", "language"}), what)
    if given == {"type": "none"}:
        return edge.DisabledStemmer()
    if given.get("type") != "snowball" or "language" not in given:
        raise bad_request(f"{what} has the type `none`, or the type `snowball` and a language")
    return edge.SnowballParams(_language(text(given["language"], what), edge.SnowballLanguage, what))


def printed_stemmer(value: Object) -> Object:
    """What `stemmer` took, as Qdrant prints it."""
    return {**value, "language": _name(value["language"])} if "language" in value else value


def scoring(value: Any, what: str) -> bool | edge.TextScoringParams:
    """True or false, or `{"type": "bm25"}`, in the engine's form."""
    if isinstance(value, bool):
        return value
    if fields(value, frozenset({"type"}), what) != {"type": "bm25"}:
        raise bad_request(f"{what} is true, false or of the type `bm25`")
    return edge.TextScoringParams(edge.TextScoringType.Bm25)


def _language(value: str, languages: Any, what: str) -> Any:
    language = getattr(languages, _name(value).capitalize(), None)
    if language is None or not value.islower():
        raise bad_request(f"{what}: there is no language {shortened(value)}")
    return language


def _name(value: str) -> str:
    return _CODES.get(value, value)


def _texts(value: Any, what: str) -> list[str]:
    if not isinstance(value, list):
        raise bad_request(f"{what} has lists of words, not {shortened(value)}")
    return [text(word, what) for word in value]
