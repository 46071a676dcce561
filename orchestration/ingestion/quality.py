"""Measuring a candidate on the golden set, and fitting the weight of the dense half to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from knowledge.database import Connection
from knowledge.models.fusion import Judged, fit_weight
from knowledge.models.retrieval_model import RetrievalModel
from knowledge.releases import lifecycle
from knowledge.releases.collection import Collections
from knowledge.releases.lifecycle import Release
from knowledge.retrieval import retriever
from knowledge.retrieval.batch import found_for
from knowledge.retrieval.evaluation import GoldenSetError, answers, golden_hash, halves, load_golden
from zhiyun.settings import KnowledgeSettings

_CANDIDATES = 50
_TOLERANCE = 0.02  # of MRR@10, against the live release on the same questions


@dataclass(frozen=True, slots=True)
class Measured:
    """The weight of the dense half, the quality of each half and of both, and whether it is as good as the live one's."""

    weight: float
    questions: int
    note: str
    good: bool = True
    quality: Mapping[str, Mapping[str, float]] = field(default_factory=dict[str, Mapping[str, float]])

    def metadata(self) -> dict[str, Any]:
        """For the Dagster UI."""
        shown: dict[str, Any] = {"golden_questions": self.questions, "fusion_weight": self.weight}
        if self.note:
            shown["golden_note"] = self.note
        for half, values in self.quality.items():
            for name in ("recall_1", "recall_5", "mrr_10"):
                shown[f"{half}_{name}"] = round(values[name], 4)
        return shown


def measure(
    connection: Connection,
    collections: Collections,
    model: RetrievalModel,
    release: Release,
    settings: KnowledgeSettings,
    say: Callable[[str], None],
) -> Measured:
    """Ask the candidate every golden question whose document it has, and record what came of it.

    The weight is fitted when the model or the golden set is another than the live release's; otherwise it stays, so
    that an edited document does not move the ranking of all others.
    """
    path = Path(settings.golden_set).expanduser()
    if not path.is_file():
        return Measured(
            release.fusion_weight, 0, f"KNOWLEDGE_GOLDEN_SET={path}: there is no such file, so nothing was measured"
        )
    try:
        golden = load_golden(path)
    except GoldenSetError as error:
        return Measured(release.fusion_weight, 0, str(error), good=False)
    uris = [row[0] for row in connection.execute("SELECT uri FROM knowledge.documents WHERE content_id IS NOT NULL")]
    wanted = [(one, frozenset(uri for uri in uris if answers(one.document, uri))) for one in golden]
    asked = [(one, documents) for one, documents in wanted if documents]
    if not asked:
        return Measured(release.fusion_weight, 0, f"no question of {path} is about a document of this release")

    questions = [one.question for one, _ in asked]
    judged: list[Judged] = []
    answers_found = found_for(collections, model, release.collection, release.number, questions, _CANDIDATES)
    for (one, documents), found in zip(asked, answers_found, strict=True):
        judged.append(retriever.judged(found, one.question, documents))
        say(f"{len(judged)} of {len(asked)} golden questions asked")

    name = golden_hash(one for one, _ in asked)
    current = lifecycle.live(connection)
    before = lifecycle.quality(connection, current.number) if current else {}
    weight = release.fusion_weight
    if not current or current.fingerprint != release.fingerprint or before.get("golden") != name:
        weight = fit_weight(judged, model.default_weight)
    quality = {half: values.as_dict() for half, values in halves(judged, weight).items()}
    lifecycle.set_quality(connection, release, weight, {"golden": name, "weight": weight, **quality})
    good = True
    if before.get("golden") == name:
        good = quality["hybrid"]["mrr_10"] >= before["hybrid"]["mrr_10"] - _TOLERANCE
    left_out = len(golden) - len(asked)
    note = f"{left_out} golden questions are about documents that are not in this release" if left_out else ""
    return Measured(weight, len(asked), note, good, quality)
