"""What starts a run when something happens."""

import dagster as dg

from knowledge.collection import VectorStoreUnavailable
from knowledge.database import DatabaseUnavailable
from knowledge.pending import pending
from orchestration.resources import Stores
from orchestration.schedules import ingestion, ingestion_in_progress
from zhiyun.settings import KnowledgeSettings, load


@dg.sensor(
    job=ingestion,
    minimum_interval_seconds=load(KnowledgeSettings).sensor_interval,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def source_changes(context: dg.SensorEvaluationContext, stores: Stores) -> dg.RunRequest | dg.SkipReason:
    """Takes in the sources when their files or settings differ from the last scan, and have stood still for one tick.

    Waiting one tick keeps a folder that is being copied from being published half-way. A state of the sources is tried
    once: if its run fails, the next try is the hourly schedule's, or a person's.
    """
    running = ingestion_in_progress(context.instance)
    if running:
        return dg.SkipReason(f"ingestion {running} has not ended")
    try:
        with stores.catalog() as connection, stores.collections() as collections:
            found = pending(connection, collections)
    except (DatabaseUnavailable, VectorStoreUnavailable, ValueError) as error:
        return dg.SkipReason(str(error))
    if not found.needed:
        return dg.SkipReason(found.reason)
    if context.cursor != found.signature:
        context.update_cursor(found.signature)
        return dg.SkipReason(f"{found.reason}; taken in at the next tick if nothing moves until then")
    return dg.RunRequest(run_key=f"{found.signature}/{found.after}", tags={"zhiyun/reason": found.reason})
