"""Sources -> documents -> passages -> vectors -> candidate release -> live release."""

from collections.abc import Callable
from typing import Any

import dagster as dg

from knowledge.database import AnotherWriter, DatabaseUnavailable
from knowledge.documents import intake
from knowledge.documents.sources import parse_sources
from knowledge.models import registry, vectors
from knowledge.models.embedding import EmbeddingModelUnavailable
from knowledge.passages import catalogue
from knowledge.releases import lifecycle, retention
from knowledge.releases.vector_store import VectorStoreUnavailable
from orchestration.capacity.guard import NoRoom, room_to_work
from orchestration.failures import sentences
from orchestration.ingestion import progress, quality, scans
from orchestration.resources import Stores
from zhiyun.settings import CapacitySettings, EmbeddingSettings, KnowledgeSettings, SettingsError, load

_COMMON: dict[str, Any] = {
    "group_name": "knowledge",
    "owners": ["team:knowledge"],
    "pool": "knowledge",  # its limit of one keeps two ingestions from running at once
}
_EXPECTED = (
    intake.NothingToTakeIn, registry.NoPassages, registry.ModelMissing, EmbeddingModelUnavailable, AnotherWriter,
    DatabaseUnavailable, VectorStoreUnavailable, SettingsError, NoRoom,
)  # fmt: skip


def _say(context: dg.AssetExecutionContext) -> Callable[[str], None]:
    return progress.paced(context.log.info)


@dg.asset(
    **_COMMON,
    kinds={"file", "postgres"},
    check_specs=[
        dg.AssetCheckSpec("readable", asset="source_documents", description="Every source and file could be read.")
    ],
)
def source_documents(context: dg.AssetExecutionContext, stores: Stores) -> dg.MaterializeResult:
    """Files below KNOWLEDGE_SOURCES, read by content hash; what cannot be read is quarantined with its reason."""
    with sentences(*_EXPECTED):
        room_to_work(load(CapacitySettings))  # the chat needs what is left
    with sentences(*_EXPECTED), stores.writing() as connection, stores.collections() as collections:
        for sentence in lifecycle.reconcile(connection, collections, lambda f: registry.load_model(connection, f)):
            context.log.warning(sentence)
        settings = load(KnowledgeSettings)
        scan = scans.begin(connection, settings, load(EmbeddingSettings), context.run.run_id)
        found = intake.take_in(connection, parse_sources(settings.sources), settings.max_file_mb, _say(context))
        scans.found(connection, scan, found)
    for failure in found.failed:
        context.log.warning(f"quarantined: {failure.uri}: {failure.reason}")
    for problem in found.problems:
        context.log.warning(problem)
    for note in found.notes:
        context.log.info(f"{note.uri}: {note.reason}")
    return dg.MaterializeResult(
        metadata={
            "files": found.seen, "unchanged": found.unchanged, "added": found.added, "changed": found.changed,
            "removed": found.removed, "quarantined": len(found.failed),
            "failures": dg.MetadataValue.md(progress.failures_markdown(found.failed)), "notes": dg.MetadataValue.md(progress.failures_markdown(found.notes)),
            "changed_documents": dg.MetadataValue.md(progress.list_markdown(found.uris_changed)),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="readable",
                passed=not found.failed and not found.problems,
                severity=dg.AssetCheckSeverity.WARN,
                metadata={"quarantined": dg.MetadataValue.md(progress.failures_markdown(found.failed)), "problems": list(found.problems)},
            )
        ],
    )  # fmt: skip


@dg.asset(**_COMMON, kinds={"python", "postgres"}, deps=[source_documents])
def passages(context: dg.AssetExecutionContext, stores: Stores) -> dg.MaterializeResult:
    """Documents cut into passages with their heading path and offsets; a content is cut once."""
    with sentences(*_EXPECTED), stores.writing() as connection:
        cut = catalogue.cut_new(connection, load(KnowledgeSettings), _say(context))
    return dg.MaterializeResult(
        metadata={
            "documents_cut": cut.contents,
            "passages_cut": cut.passages,
            "passages": cut.total,
            "documents_without_text": list(cut.empty),
        }
    )


@dg.asset(**_COMMON, kinds={"pytorch", "postgres"}, deps=[passages])
def retrieval_model(context: dg.AssetExecutionContext, stores: Stores) -> dg.MaterializeResult:
    """The dense model and the word frequencies; with EMBEDDING_MODEL=corpus it is trained on the passages themselves."""
    with sentences(*_EXPECTED), stores.writing() as connection:
        rules = catalogue.passage_rules(load(KnowledgeSettings))
        chosen = registry.choose(connection, load(EmbeddingSettings), rules, _say(context))
    if chosen.reason:
        context.log.info(f"a new model was made: {chosen.reason}")
    return dg.MaterializeResult(
        data_version=dg.DataVersion(chosen.fingerprint),
        metadata={"fingerprint": chosen.fingerprint, "made_now": chosen.reason or "no: the one at hand fits"},
    )


@dg.asset(**_COMMON, kinds={"pytorch", "postgres"}, deps=[retrieval_model])
def passage_vectors(context: dg.AssetExecutionContext, stores: Stores) -> dg.MaterializeResult:
    """A dense vector for each passage, computed once for its text and model."""
    with sentences(*_EXPECTED), stores.writing() as connection:
        rules = catalogue.passage_rules(load(KnowledgeSettings))
        model = registry.chosen_model(connection, rules)
        done = vectors.embed_new(connection, model.embedder, rules, _say(context))
    context.log.info(f"{done.embedded} passages embedded, {done.reused} vectors were there already")
    return dg.MaterializeResult(
        metadata={
            "embedded": done.embedded,
            "reused": done.reused,
            "seconds": round(done.seconds, 2),
            "passages_per_second": round(done.embedded / done.seconds, 1) if done.embedded else 0.0,
        }
    )


@dg.asset(
    **_COMMON,
    kinds={"qdrant", "postgres"},
    deps=[passage_vectors],
    check_specs=[
        dg.AssetCheckSpec(
            "complete", asset="candidate_release", blocking=True,
            description="The vector store holds as many passages of the candidate as the record does.",
        ),
        dg.AssetCheckSpec(
            "retrieval_quality", asset="candidate_release",
            description="How often the golden set's questions find their document.",
        ),
    ],
)  # fmt: skip
def candidate_release(context: dg.AssetExecutionContext, stores: Stores) -> dg.MaterializeResult:
    """The next release, written beside the live one and measured on the golden set. Customers do not see it yet."""
    with sentences(*_EXPECTED), stores.writing() as connection, stores.collections() as collections:
        settings = load(KnowledgeSettings)
        rules = catalogue.passage_rules(settings)
        model = registry.chosen_model(connection, rules)
        built = lifecycle.build(connection, collections, model, rules, _say(context), run_id=context.run.run_id)
        if built is None:
            current = lifecycle.live(connection)
            context.log.info("nothing changed: no candidate is needed")
            return dg.MaterializeResult(
                metadata={"release": current.number if current else 0, "changed": False},
                check_results=[
                    dg.AssetCheckResult(check_name="complete", passed=True, metadata={"changed": False}),
                    dg.AssetCheckResult(check_name="retrieval_quality", passed=True, metadata={"changed": False}),
                ],
            )
        release, difference = built
        recorded, counted = lifecycle.verify(connection, collections, release)
        measured = quality.measure(connection, collections, model, release, settings, _say(context))
    return dg.MaterializeResult(
        data_version=dg.DataVersion(str(release.number)),
        metadata={
            "release": release.number, "changed": True, "collection": release.collection,
            "documents": difference.documents, "passages": difference.passages,
            "points_added": difference.added, "points_removed": difference.removed, **measured.metadata(),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="complete", passed=recorded == counted, metadata={"recorded": recorded, "counted": counted}
            ),
            dg.AssetCheckResult(
                check_name="retrieval_quality", passed=measured.good, severity=dg.AssetCheckSeverity.WARN,
                metadata=measured.metadata(),
            ),
        ],
    )  # fmt: skip


@dg.asset(**_COMMON, kinds={"qdrant", "postgres"}, deps=[candidate_release])
def live_release(context: dg.AssetExecutionContext, stores: Stores) -> dg.MaterializeResult:
    """The release that customers are answered from: publishing the candidate changes one number."""
    with sentences(*_EXPECTED), stores.writing() as connection, stores.collections() as collections:
        settings = load(KnowledgeSettings)
        candidate = lifecycle.candidate(connection)
        pruned: dict[str, int] = {}
        if candidate is not None:
            lifecycle.publish(connection, collections, candidate)
            pruned = retention.prune(connection, collections, settings.releases_kept)
        current = lifecycle.live(connection)
        scans.finish(connection, context.run.run_id, current.number if current else None)
    number = current.number if current else 0
    context.log.info(f"release {number} is live" if candidate else f"release {number} stays live: nothing changed")
    return dg.MaterializeResult(
        data_version=dg.DataVersion(str(number)),
        metadata={
            "release": number,
            "published_now": candidate is not None,
            "pruned": pruned,
            **(current.counts if current else {}),
        },
    )
