"""The one model that is built in: BM25, which turns a text into a sparse vector."""

from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec
import qdrant_edge as edge
from msgspec import Meta

from embedded.qdrant.engine import guarded
from embedded.qdrant.errors import bad_request, not_built

_MODELS = frozenset({"qdrant/bm25", "bm25"})
_TOKENIZERS = {
    "prefix": edge.TokenizerType.Prefix,
    "whitespace": edge.TokenizerType.Whitespace,
    "word": edge.TokenizerType.Word,
    "multilingual": edge.TokenizerType.Multilingual,
}
Length = Annotated[int, Meta(ge=0, lt=2**62)]


class Stopwords(msgspec.Struct, frozen=True):
    """Words to leave out: those of languages, and others."""

    languages: list[str] | None = None
    custom: list[str] | None = None


class Stemmer(msgspec.Struct, frozen=True):
    """How words are cut to their stems."""

    type: Literal["snowball", "none"]
    language: str | None = None


class Bm25Options(msgspec.Struct, frozen=True):
    """The `options` of a document for BM25; what is not given is the engine's default."""

    k: float | None = None
    b: float | None = None
    avg_len: float | None = None
    tokenizer: Literal["prefix", "whitespace", "word", "multilingual"] | None = None
    language: str | None = None
    lowercase: bool | None = None
    ascii_folding: bool | None = None
    stopwords: str | Stopwords | None = None
    stemmer: Stemmer | None = None
    min_token_len: Length | None = None
    max_token_len: Length | None = None

    def model(self) -> edge.Bm25:
        """The model with these options; raises ApiError for a language that it does not know."""
        language, stopwords, stemmer = self.language, self.stopwords, self.stemmer
        if language is not None and language.capitalize() not in _names(edge.Language):
            # Qdrant takes an unknown language, "none" above all, for none: no stems, no words left out.
            language, stopwords = None, Stopwords() if stopwords is None else stopwords
            stemmer = stemmer or Stemmer("none")
        return edge.Bm25(
            edge.Bm25Config(
                k=self.k,
                b=self.b,
                avg_len=self.avg_len,
                tokenizer=None if self.tokenizer is None else _TOKENIZERS[self.tokenizer],
                language=None if language is None else language.lower(),
                lowercase=self.lowercase,
                ascii_folding=self.ascii_folding,
                stopwords=_stopwords(stopwords),
                stemmer=_stemmer(stemmer),
                min_token_len=self.min_token_len,
                max_token_len=self.max_token_len,
            )
        )


def embedded(text: Any, model: Any, options: Any, *, query: bool) -> edge.SparseVector:
    """The sparse vector of a text. A query weighs each of its words 1, a document by how often they occur.

    Raises ApiError for another model (501), and for what is no text or no option (400).
    """
    if not isinstance(model, str) or model.lower() not in _MODELS:
        raise not_built("inference other than qdrant/bm25: send vectors, not texts or images")
    if not isinstance(text, str):
        raise bad_request(f"Only text input is supported for {model}.")
    try:
        bm25 = _model(msgspec.json.encode(options))
    except msgspec.ValidationError as error:
        raise bad_request(f"Invalid BM25 config: {error}") from error
    return bm25.embed_query(text) if query else bm25.embed_document(text)


@lru_cache(maxsize=32)
def _model(options: bytes) -> edge.Bm25:
    given = msgspec.json.decode(options, type=Bm25Options | None) or Bm25Options()
    return guarded(given.model)


def _stopwords(value: str | Stopwords | None) -> Any:
    if value is None:
        return None
    if isinstance(value, str):
        return _member(edge.Language, value)
    languages = {_member(edge.Language, name) for name in value.languages or ()}
    return edge.StopwordsSet(languages, set(value.custom or ()))


def _stemmer(value: Stemmer | None) -> Any:
    if value is None:
        return None
    if value.type == "none":
        return edge.DisabledStemmer()
    return edge.SnowballParams(_member(edge.SnowballLanguage, value.language or ""))


def _member(kind: Any, name: str) -> Any:
    if name.capitalize() not in _names(kind):
        raise bad_request(f"there is no language `{name}`")
    return getattr(kind, name.capitalize())


def _names(kind: Any) -> set[str]:
    return {name for name in vars(kind) if name[:1].isupper()}
