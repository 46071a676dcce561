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
        [
            "collection_maintenance", "connection_capacity", "dagster_history", "database_health", "disk_capacity",
            "index_maintenance", "index_report", "memory_capacity", "postgres_backup", "restore_drill", "slow_query_report",
            "source_documents", "storage_sizes", "vacuum_analyze",
        ],
        ["passages", "qdrant_backup"],
        ["file_store_backup", "retrieval_model"],
        ["passage_vectors", "recovery_point"],
        ["backup_retention", "candidate_release"],
        ["live_release"],
    ]  # fmt: skip
    assert sorted(f"{key.asset_key.to_user_string()}:{key.name}" for key in graph.asset_check_keys) == [
        "candidate_release:complete",
        "candidate_release:retrieval_quality",
        "collection_maintenance:collections_sound",
        "connection_capacity:connections_left",
        "database_health:healthy",
        "disk_capacity:measured",
        "disk_capacity:not_full_soon",
        "disk_capacity:room",
        "index_maintenance:indexes_sound",
        "memory_capacity:within_limits",
        "recovery_point:recovery_point_verified",
        "restore_drill:restores_whole",
        "restore_drill:rpo",
        "restore_drill:rto",
        "slow_query_report:no_slow_queries",
        "source_documents:readable",
    ]


def test_schedules_and_sensors_run_without_being_switched_on() -> None:
    repository = defs.get_repository_def()
    assert [
        (s.name, s.cron_schedule, s.execution_timezone, s.default_status.value) for s in repository.schedule_defs
    ] == [
        ("capacity_check_schedule", "*/15 * * * *", "Asia/Shanghai", "RUNNING"),
        ("database_health_check_schedule", "*/10 * * * *", "Asia/Shanghai", "RUNNING"),
        ("hourly_ingestion", "7 * * * *", "Asia/Shanghai", "RUNNING"),
        ("nightly_maintenance_schedule", "0 5 * * *", "Asia/Shanghai", "RUNNING"),
        ("nightly_recovery_point", "30 2 * * *", "Asia/Shanghai", "RUNNING"),
        ("storage_survey_schedule", "20 * * * *", "Asia/Shanghai", "RUNNING"),
        ("weekly_index_maintenance_schedule", "0 6 * * 0", "Asia/Shanghai", "RUNNING"),
        ("weekly_restore_drill", "0 4 * * 0", "Asia/Shanghai", "RUNNING"),
    ]
    assert [(s.name, s.minimum_interval_seconds, s.default_status.value) for s in repository.sensor_defs] == [
        ("operations_alarms", 60, "RUNNING"),
        ("recovery_point_alerts", 300, "RUNNING"),
        ("source_changes", 30, "RUNNING"),
    ]


def test_a_run_cannot_stay_started_for_ever() -> None:
    for job in defs.resolve_all_job_defs():
        if not job.name.startswith("__"):
            assert int(job.tags["dagster/max_runtime"]) > 0, job.name


def test_every_asset_has_an_owner_and_a_description() -> None:
    for asset in defs.resolve_asset_graph().asset_nodes:
        assert asset.owners, asset.key
        assert asset.description, asset.key


def test_pools_keep_apart_what_must_not_run_at_once() -> None:
    graph = defs.resolve_asset_graph()
    pools = {asset.key.to_user_string(): asset.pools for asset in graph.asset_nodes}
    for asset in ("source_documents", "passages", "candidate_release", "live_release", "qdrant_backup"):
        assert pools[asset] == {"knowledge"}, asset  # a backup captures vectors while no release is being built
    for asset in ("postgres_backup", "backup_retention", "restore_drill", "vacuum_analyze", "index_maintenance"):
        assert pools[asset] == {"database"}, asset  # a dump's snapshot would hold up REINDEX CONCURRENTLY


def test_a_nights_blocking_check_stands_before_retention() -> None:
    graph = defs.resolve_asset_graph()
    [check] = [key for key in graph.asset_check_keys if key.name == "recovery_point_verified"]
    assert graph.get(check).blocking
    assert dg.AssetKey("recovery_point") in graph.get(dg.AssetKey("backup_retention")).parent_keys


def test_loading_the_code_location_imports_no_model_library() -> None:
    code = (
        "import sys, orchestration.definitions; "
        "print([m for m in ('torch', 'sentence_transformers', 'transformers', 'rjieba', 'opencc') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
