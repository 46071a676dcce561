"""What the golden questions find: asked when a point is made, asked again of what was restored from it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import psycopg

from knowledge.database import Connection
from knowledge.models import registry
from knowledge.releases import lifecycle
from knowledge.releases.collection import Collections
from knowledge.retrieval.batch import found_for
from knowledge.retrieval.evaluation import GoldenSetError, load_golden
from knowledge.retrieval.retriever import Evidence, ranked
from objects.store import ObjectStore
from orchestration.backups.attempt import Attempt
from orchestration.backups.installation import Installation
from orchestration.backups.recovery_point import GoldenPart, Manifest, PointDamaged
from orchestration.backups.streams.blobs import read_blob, write_blob
from zhiyun.settings import RetrievalSettings, load

if TYPE_CHECKING:
    from knowledge.models.retrieval_model import RetrievalModel

_FIRST = 5  # passages of an answer that are compared
_ENOUGH = 0.98
"""Share of the questions that must have the same first passage. The graph is the same, so nearly all have."""


class Answer(msgspec.Struct, frozen=True):
    """A question, and the first passages that it finds, best first: `uri#start-end`, and a hash of the text."""

    question: str
    passages: tuple[str, ...]


class Compared(msgspec.Struct, frozen=True):
    """How many questions find the same first passage, and the same first five; and the questions that do not."""

    questions: int
    same_first: int
    same_all: int
    differing: tuple[str, ...] = ()

    @property
    def problem(self) -> str:
        """Why what was restored is not what the point was made of; empty where it is."""
        if self.same_first >= _ENOUGH * self.questions:
            return ""
        return (
            f"{self.questions - self.same_first} of {self.questions} golden questions are answered otherwise than when the "
            f"point was made, for example {self.differing[0]}"
        )


def capture(inst: Installation, one: Attempt) -> GoldenPart | None:
    """Ask the live release the golden questions, and write down what they find. None, and a word, without either."""
    try:
        path = Path(inst.knowledge.golden_set).expanduser()
        questions = [golden.question for golden in load_golden(path)] if inst.knowledge.golden_set else []
    except GoldenSetError as error:
        inst.progress.say(f"no golden questions are in this point: {error}")
        return None
    with inst.catalog("golden questions") as catalog:
        try:
            live = lifecycle.live(catalog)
        except psycopg.errors.UndefinedTable:  # a database that has never been set up
            live = None
        if live is None or not questions:
            inst.progress.say(
                "no golden questions are in this point: " + ("nothing is live" if questions else "there are none")
            )
            return None
        model = registry.load_model(catalog, live.fingerprint)
    collections = inst.collections()
    if not collections.exists(live.collection):  # when vectors are lost, conversations are to be backed up all the same
        inst.progress.say(
            f"no golden questions are in this point: the vector store has no collection {live.collection}"
        )
        return None
    answers = list(ask(collections, model, live.collection, live.number, live.fusion_weight, questions))
    lines = (msgspec.json.encode(answer) + b"\n" for answer in answers)
    key = f"{one.prefix}golden.jsonl.zst{inst.suffix}"
    return GoldenPart(write_blob(inst.primary, key, lines, keys=inst.keys), len(answers))


def replay(
    inst: Installation,
    catalog: Connection,
    manifest: Manifest,
    store: ObjectStore,
    names: Mapping[str, str],
    models: Path | None = None,
) -> Compared | None:
    """Ask restored collections the same questions; `catalog` is the restored database, with the model.

    `names` maps collections of the point to what they are called here; `models` is where the model is unpacked. None
    where the point has no answers.
    """
    if manifest.golden is None:
        return None
    before = stored(store, manifest, inst)
    live = lifecycle.live(catalog)
    if live is None:
        return Compared(len(before), 0, 0, tuple(answer.question for answer in before))
    model = registry.load_model(catalog, live.fingerprint, models)
    collection = names.get(live.collection, live.collection)
    questions = [answer.question for answer in before]
    after = ask(inst.collections(), model, collection, live.number, live.fusion_weight, questions)
    return compare(before, after)


def stored(store: ObjectStore, manifest: Manifest, inst: Installation) -> list[Answer]:
    """The answers of a point. Raises PointDamaged."""
    if manifest.golden is None:
        return []
    data = b"".join(read_blob(store, manifest.golden.answers, keys=inst.keys))
    try:
        return [msgspec.json.decode(line, type=Answer) for line in data.splitlines()]
    except msgspec.DecodeError as error:
        key = manifest.golden.answers.key
        raise PointDamaged(f"{key} in {store.url} holds no answers ({error}). Nothing was changed.") from None


def ask(
    collections: Collections,
    model: RetrievalModel,
    collection: str,
    release: int,
    weight: float,
    questions: Sequence[str],
) -> Iterator[Answer]:
    """What each question finds in a release, as the chat would find it."""
    candidates = load(RetrievalSettings).candidates
    found = found_for(collections, model, collection, release, questions, candidates)
    for question, passages in zip(questions, found, strict=True):
        best = ranked(passages, question, model, weight, _FIRST)
        yield Answer(question, tuple(_named(one) for one in best))


def _named(evidence: Evidence) -> str:
    digest = hashlib.sha256(evidence.text.encode()).hexdigest()[:16]
    return f"{evidence.uri}#{evidence.start}-{evidence.end} {digest}"


def compare(before: Sequence[Answer], after: Iterable[Answer]) -> Compared:
    """Answers of the same questions in the same order.

    Passages with one text count as one: where documents repeat each other, chance decides which comes first.
    """
    pairs = [(old.question, _texts(old), _texts(new)) for old, new in zip(before, after, strict=True)]
    differing = tuple(question for question, old, new in pairs if old[:1] != new[:1])
    same_all = sum(old == new for _, old, new in pairs)
    return Compared(len(pairs), len(pairs) - len(differing), same_all, differing)


def _texts(answer: Answer) -> list[str]:
    return [passage.rpartition(" ")[2] for passage in answer.passages]
