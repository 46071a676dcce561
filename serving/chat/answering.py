"""From a question to an answer: a language model over the evidence, quotes from it, or an honest no."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

import structlog

from knowledge.retrieval.retriever import Evidence, Retrieved
from serving.chat import extractive, language, prompts
from serving.chat.citations import CitationMarks
from serving.chat.language import SENTENCES, Language, SmallTalk
from serving.chat.llm import Completed, Llm, LlmFailed
from serving.chat.messages import Citation, Cited, Delta, Event, Finished, Turn
from serving.operations import metrics
from zhiyun.settings import ServingSettings

_log = structlog.get_logger(__name__)

_FOLLOW_UP = 40  # characters: a question up to this length may lean on the one before
# Words such as “and then?” match nothing, and pull the confidence in what both questions find down.
_FOLLOW_UP_SHARE = 0.7
_SNIPPET = 300  # characters of a passage in a citation


class ModelUnavailable(RuntimeError):
    """The live release's retrieval model cannot be loaded now. One sentence."""


class Retrieves(Protocol):
    """What answering needs of `knowledge.retrieval.retriever.Retriever`."""

    async def retrieve(
        self, question: str, *, limit: int | None = None, threshold: float | None = None
    ) -> Retrieved: ...


@dataclass(frozen=True, slots=True)
class Prepared:
    """A question with what was found for it."""

    question: str
    language: Language
    history: tuple[Turn, ...]
    small_talk: SmallTalk | None
    evidence: tuple[Evidence, ...] = ()
    release: int | None = None
    searched: str = ""  # what the evidence was found with


class Answering:
    """Makes answers. Without `llm` every answer is extractive. `threshold` is the retriever's own."""

    def __init__(self, retriever: Retrieves, llm: Llm | None, settings: ServingSettings, *, threshold: float) -> None:
        self._threshold = threshold
        self._retriever = retriever
        self._llm = llm
        self._settings = settings

    async def prepare(self, question: str, history: Sequence[Turn]) -> Prepared:
        """Find the evidence. Raises NoLiveRelease, VectorStoreDown, ModelUnavailable."""
        spoken = language.detect(question)
        kind = language.small_talk(question)
        if kind:
            return Prepared(question, spoken, tuple(history), kind)
        searched = question
        retrieved = await self.retrieve(question)
        if not retrieved.evidence and len(question) <= _FOLLOW_UP:
            before = next((turn.content for turn in reversed(history) if turn.role == "customer"), None)
            if before:
                searched = f"{before}\n{question}"
                threshold = _FOLLOW_UP_SHARE * self._threshold
                retrieved = await self.retrieve(searched, threshold=threshold)
        return Prepared(question, spoken, tuple(history), None, tuple(retrieved.evidence), retrieved.release, searched)

    async def retrieve(self, question: str, *, limit: int | None = None, threshold: float | None = None) -> Retrieved:
        """The retriever's answer, measured."""
        retrieved = await self._retriever.retrieve(question, limit=limit, threshold=threshold)
        if "embed" in retrieved.stages:
            metrics.EMBEDDING_TIME.observe(retrieved.stages["embed"])
        if "search" in retrieved.stages:
            metrics.SEARCH_TIME.observe(retrieved.stages["search"])
        return retrieved

    async def answer(self, prepared: Prepared) -> AsyncGenerator[Event, None]:
        """The answer as it is made: Delta and Cited, then one Finished."""
        sentences = SENTENCES[prepared.language]
        if prepared.small_talk:
            yield Delta(sentences.small_talk(prepared.small_talk))
            yield Finished("none", "stop")
        elif not prepared.evidence:
            yield Delta(sentences.dont_know(self._settings.contact))
            yield Finished("none", "stop")
        elif self._llm is None:
            async for event in _quoted(prepared, sentences.notice_no_llm):
                yield event
        else:
            async with aclosing(self._generated(self._llm, prepared)) as events:
                async for event in events:
                    yield event

    async def _generated(self, llm: Llm, prepared: Prepared) -> AsyncGenerator[Event, None]:
        messages = prompts.build(
            prepared.question,
            prepared.evidence,
            prepared.history,
            prepared.language,
            self._settings.service_name,
        )
        sentences = SENTENCES[prepared.language]
        marks = CitationMarks(len(prepared.evidence))
        text, cited = "", 0
        completed = Completed("interrupted", None)
        failure: LlmFailed | None = None
        try:
            async with aclosing(llm.stream(messages)) as pieces:
                async for piece in pieces:
                    if isinstance(piece, Completed):
                        completed = piece
                        continue
                    ready = marks.feed(piece.replace("\0", ""))
                    if not text:
                        ready = ready.lstrip()
                    if ready:
                        text += ready
                        yield Delta(ready)
                    for number in marks.cited[cited:]:
                        yield Cited(citation(number, prepared.evidence[number - 1], prepared.release))
                    cited = len(marks.cited)
        except LlmFailed as error:
            failure = error
            _log.warning("llm_failed", reason=str(error), answered_with="what was there" if text else "quotes")
        if failure and not text:
            async for event in _quoted(prepared, sentences.notice_llm_failed, str(failure)):
                yield event
            return
        rest = marks.end()
        if failure and (text + rest).count("```") % 2:
            rest += "\n```"
        if rest:
            yield Delta(rest)
        numbers = marks.cited[cited:] if marks.cited else range(1, len(prepared.evidence) + 1)
        for number in numbers:
            yield Cited(citation(number, prepared.evidence[number - 1], prepared.release))
        if failure:
            notice = sentences.notice_interrupted
            yield Finished("llm", "interrupted", notice, degraded=("llm",), error=str(failure))
        else:
            yield Finished("llm", completed.finish_reason, usage=completed.usage)


async def _quoted(prepared: Prepared, notice: str, error: str | None = None) -> AsyncGenerator[Event, None]:
    quotes = extractive.quotes(prepared.searched, prepared.evidence)
    text = SENTENCES[prepared.language].quoted
    for number, quote in enumerate(quotes, 1):
        place = " › ".join(dict.fromkeys((quote.evidence.title, *quote.evidence.heading)))
        yield Delta(f"{text}\n\n**{place.replace('*', '')}** [{number}]\n\n{quote.text}")
        yield Cited(citation(number, quote.evidence, prepared.release))
        text = ""
    yield Finished("extractive", "stop", notice, degraded=("llm",) if error else (), error=error)


def citation(index: int, evidence: Evidence, release: int | None) -> Citation:
    """A piece of evidence as it is shown to a customer."""
    snippet = evidence.text.strip()
    return Citation(
        index=index,
        passage_id=evidence.passage_id,
        document=evidence.document_id,
        uri=evidence.uri,
        title=evidence.title,
        heading=tuple(evidence.heading),
        text=snippet if len(snippet) <= _SNIPPET else snippet[:_SNIPPET].rstrip() + "…",
        start=evidence.start,
        end=evidence.end,
        score=round(evidence.score, 4),
        url=f"/api/passages/{evidence.passage_id}?release={release}",
    )
