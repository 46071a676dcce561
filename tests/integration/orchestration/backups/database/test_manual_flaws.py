"""What is wrong with the manual's backup of PostgreSQL, each shown on the manual's way and survived by ours.

The numbers are those of docs on backups; flaws of retention, of files and of the vector store are tested with those.
"""

from __future__ import annotations

import gzip
import os
import subprocess
from pathlib import Path

import pytest

from orchestration.backups.database import archive, verify
from orchestration.backups.database.dump import Dump, globals_
from orchestration.backups.database.load import restore_into
from orchestration.backups.recovery_point import BackupError, PointDamaged
from tests.support.backups.databases import Server, dumped, in_pieces, restored, run, value

pytestmark = pytest.mark.slow


def manual(server: Server, command: str, **names: object) -> subprocess.CompletedProcess[str]:
    """A line of the manual in a shell, with the server's own programs."""
    password = server.admin().partition("://postgres:")[2].partition("@")[0]
    environment = {
        **os.environ, "PATH": f"{server.programs.folder}:{os.environ['PATH']}", "PGHOST": "127.0.0.1",
        "PGPORT": str(server.cluster.port), "PGUSER": "postgres", "PGPASSWORD": password,
    }  # fmt: skip
    environment |= {name: str(value) for name, value in names.items()}
    return subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, check=False)


def test_1_a_dump_that_fails_is_no_success_with_an_empty_file(server: Server, tmp_path: Path) -> None:
    done = manual(server, 'pg_dump no_such_database | gzip > "$FILE"', FILE=tmp_path / "backup.sql.gz")
    assert done.returncode == 0
    assert gzip.decompress((tmp_path / "backup.sql.gz").read_bytes()) == b""
    with (
        pytest.raises(BackupError, match=r"no_such_database.*does not exist"),
        Dump(server.admin("no_such_database"), server.programs),
    ):
        pass


def test_4_a_restore_neither_keeps_changed_rows_nor_doubles_a_table_without_a_key(
    server: Server, tmp_path: Path
) -> None:
    live, file = server.make(), tmp_path / "backup.sql.gz"
    data, database = dumped(server.admin(live), server.programs)
    manual(server, 'pg_dump "$DB" | gzip > "$FILE"', DB=live, FILE=file)
    run(server.admin(live), "UPDATE customers SET name = '被改' WHERE id = 1")
    done = manual(server, 'gunzip -c "$FILE" | psql "$DB"', DB=live, FILE=file)
    assert done.returncode == 0
    assert "ERROR" in done.stderr
    assert value(server.admin(live), "SELECT name FROM customers WHERE id = 1") == "被改"
    assert value(server.admin(live), "SELECT count(*) FROM visits") == 100
    name = restored(server, server.admin(live), live, data)
    assert value(server.admin(name), "SELECT name FROM customers WHERE id = 1") == "张三1"
    assert value(server.admin(name), "SELECT count(*) FROM visits") == 50
    assert verify.verify(server.admin(name), database) == []


def test_5_a_truncated_dump_does_not_restore_as_if_it_were_whole(server: Server, tmp_path: Path) -> None:
    live, file = server.make(), tmp_path / "backup.sql"
    data, _ = dumped(server.admin(live), server.programs)
    manual(server, 'pg_dump "$DB" > "$FILE"', DB=live, FILE=file)
    text = file.read_text(encoding="utf-8")
    file.write_text(text[: text.index("\nCOPY ")], encoding="utf-8")
    target = server.make(filled=False)
    done = manual(server, 'psql "$DB" < "$FILE"', DB=target, FILE=file)
    assert done.returncode == 0
    assert value(server.admin(target), "SELECT count(*) FROM customers") == 0
    for cut in (len(data) // 2, len(data) - 1):
        with pytest.raises(BackupError):
            restore_into(server.admin(server.make(filled=False)), in_pieces(data[:cut]), server.programs)


def test_6_a_restored_database_has_statistics(server: Server) -> None:
    live = server.make()
    analysed = "SELECT count(*) FROM pg_stats WHERE schemaname = 'public'"
    done = manual(server, 'psql -d "$DB" -c "VACUUM ANALYZE; REINDEX;"', DB=live)
    assert "syntax error" in done.stderr
    assert value(server.admin(live), analysed) == 0
    data, _ = dumped(server.admin(live), server.programs)
    assert value(server.admin(restored(server, server.admin(live), live, data)), analysed) > 0


def test_7_roles_are_in_a_recovery_point(server: Server) -> None:
    told = manual(server, 'pg_dump "$DB"', DB=server.make())
    assert "CREATE ROLE" not in told.stdout
    ours = b"".join(globals_(server.admin(), server.programs)).decode()
    assert 'CREATE ROLE "Reader 读者";' in ours
    assert "SCRAM" not in ours


def test_8_a_truncated_archive_is_found_though_its_list_is_whole(server: Server, tmp_path: Path) -> None:
    data, _ = dumped(server.admin(server.make()), server.programs)
    file = tmp_path / "backup.dump"
    file.write_bytes(data[: len(data) // 2])
    assert manual(server, 'pg_restore --list "$FILE"', FILE=file).returncode == 0
    with pytest.raises(PointDamaged):
        archive.check(in_pieces(file.read_bytes()), server.programs)
