"""Doctor and recovery points: what has gone wrong with them is told from the stores, and from the record of trials."""

from __future__ import annotations

from datetime import timedelta

import psycopg

from orchestration.backups.making.verify import verify_everywhere
from orchestration.backups.restore.drill import drill, record_drill
from tests.support.backups.platforms import POINT, Platform
from tests.support.diagnosed import found, told

pytest_plugins = ("tests.support.backups.platforms",)


def test_a_good_point_is_well_until_it_is_old_or_its_store_is_gone(platform: Platform) -> None:
    findings = found("recovery", **platform.environment)
    assert told(findings) == {}
    assert POINT in findings["recovery.well"].says("en")
    assert "recovery.no_drill" in findings
    findings = found("recovery", **{**platform.environment, "BACKUP_RPO_HOURS": "0.000001"})
    assert POINT in findings["recovery.point_too_old"].says("en")
    assert findings["recovery.point_too_old"].severity == "error"
    # The database does not answer: the stores tell it all the same.
    nobody = "postgresql://zhiyun@127.0.0.1:1/zhiyun"
    assert "recovery.well" in found("recovery", **{**platform.environment, "DATABASE_URL": nobody})
    platform.backups.rename(platform.root / "elsewhere")
    platform.backups.write_text("a file, and no folder")
    findings = found("recovery", **platform.environment)
    assert str(platform.backups) in findings["recovery.store_unreadable"].says("en")
    platform.backups.unlink()
    findings = found("recovery", **platform.environment)
    assert "no verified recovery point" in told(findings)["recovery.no_point"]


def test_a_point_that_was_damaged_is_told_once_somebody_has_read_it(platform: Platform) -> None:
    [dump] = (platform.backups / "points" / POINT).rglob("postgres-platform.dump*")
    content = bytearray(dump.read_bytes())
    content[len(content) // 2] ^= 1
    dump.chmod(0o600)
    dump.write_bytes(content)
    assert any(verify_everywhere(platform.inst, POINT, platform.inst.stores).values())
    findings = told(found("recovery", **platform.environment))
    assert POINT in findings["recovery.point_failed"]
    assert "recovery.no_point" in findings


def test_a_trial_that_failed_and_one_that_is_long_ago(platform: Platform) -> None:
    record_drill(platform.inst, drill(platform.inst))
    findings = found("recovery", **platform.environment)
    assert told(findings) == {}
    assert POINT in findings["recovery.drill_well"].says("en")
    with psycopg.connect(platform.database_url, autocommit=True) as connection:
        connection.execute("UPDATE operations.restore_drills SET at = at - %s", (timedelta(days=9),))
    assert "9 d ago" in told(found("recovery", **platform.environment))["recovery.drill_too_old"]
    platform.server.process.kill()
    record_drill(platform.inst, drill(platform.inst))
    assert "QDRANT_URL" in told(found("recovery", **platform.environment))["recovery.drill_failed"]


def test_a_key_that_is_not_there_stops_backups(platform: Platform) -> None:
    findings = found("recovery", **{**platform.environment, "BACKUP_KEY_FILE": str(platform.root / "no-key")})
    assert "BACKUP_KEY_FILE" in told(findings)["recovery.cannot_back_up"]
