"""The code location loads, and nothing in it vanishes unnoticed."""

import subprocess
import sys

import dagster as dg

from orchestration.definitions import defs


def test_the_code_location_can_be_loaded() -> None:
    dg.Definitions.validate_loadable(defs)


def test_assets_checks_and_their_order() -> None:
    graph = defs.resolve_asset_graph()
    order = [sorted(key.to_user_string() for key in level) for level in graph.toposorted_asset_keys_by_level]
    assert order == [
        ["source_documents"],
        ["passages"],
        ["retrieval_model"],
        ["passage_vectors"],
        ["candidate_release"],
        ["live_release"],
    ]
    assert sorted(f"{key.asset_key.to_user_string()}:{key.name}" for key in graph.asset_check_keys) == [
        "candidate_release:complete",
        "candidate_release:retrieval_quality",
        "source_documents:readable",
    ]


def test_schedules_and_sensors_run_without_being_switched_on() -> None:
    repository = defs.get_repository_def()
    assert [
        (s.name, s.cron_schedule, s.execution_timezone, s.default_status.value) for s in repository.schedule_defs
    ] == [("hourly_ingestion", "7 * * * *", "Asia/Shanghai", "RUNNING")]
    assert [(s.name, s.minimum_interval_seconds, s.default_status.value) for s in repository.sensor_defs] == [
        ("source_changes", 30, "RUNNING")
    ]


def test_a_run_cannot_stay_started_for_ever() -> None:
    assert int(defs.resolve_job_def("ingestion").tags["dagster/max_runtime"]) > 0


def test_every_asset_has_an_owner_a_description_and_the_writers_pool() -> None:
    for asset in defs.resolve_asset_graph().asset_nodes:
        assert asset.owners, asset.key
        assert asset.description, asset.key
        assert asset.pools == {"knowledge"}, asset.key


def test_loading_the_code_location_imports_no_model_library() -> None:
    code = (
        "import sys, orchestration.definitions; "
        "print([m for m in ('torch', 'sentence_transformers', 'transformers', 'rjieba', 'opencc') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
