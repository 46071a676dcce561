"""A database that differs from its manifest, or has a damaged page, is found, and what differs is named."""

from __future__ import annotations

import os

from orchestration.backups.database import verify
from tests.support.backups.databases import Server, dumped, restored, run, value


def test_what_differs_from_the_manifest_is_named(server: Server) -> None:
    live = server.make()
    admin = server.admin(live)
    data, database = dumped(admin, server.programs)
    name = restored(server, admin, live, data)
    run(
        server.admin(name),
        "DELETE FROM visits WHERE seconds = 7", "UPDATE customers SET note = '改' WHERE id = 500", "DROP TABLE older CASCADE",
        "DROP EXTENSION pgstattuple", "CREATE TABLE added (x int)",
    )  # fmt: skip
    assert verify.verify(server.admin(name), database) == [
        "Table public.added is not in the recovery point.",
        "Table public.customers has other values in 200 sampled rows.",
        "Table public.newer is missing.",
        "Table public.older is missing.",
        "Table public.visits has 49 rows and should have 50.",
        "Extension pgstattuple is missing.",
    ]


def test_amcheck_finds_a_damaged_page_and_says_when_it_may_not_look(server: Server) -> None:
    live = server.make()
    whole = verify.amcheck(server.admin(live), server.programs)
    assert (whole.problems, whole.left_out) == ((), "")
    assert "may not use" in verify.amcheck(server.cluster.url(live), server.programs).left_out
    file = value(server.admin(live), "SELECT pg_relation_filepath('orders_by_customer')").rpartition("/")[2]
    copy = f"{live}_copy"
    # Copied as files, so that no page of it is in the server's memory.
    run(server.admin(), "CHECKPOINT", f"CREATE DATABASE {copy} TEMPLATE {live} STRATEGY file_copy", "CHECKPOINT")
    oid = value(server.admin(), f"SELECT oid FROM pg_database WHERE datname = '{copy}'")
    path = server.cluster.data / "base" / str(oid) / file
    damaged = bytearray(path.read_bytes())
    damaged[8192 + 8000 : 8192 + 8100] = os.urandom(100)
    path.write_bytes(damaged)
    found = verify.amcheck(server.admin(copy), server.programs)
    assert any("orders_by_customer" in problem or "invalid page" in problem for problem in found.problems)
    run(server.admin(copy), "DROP EXTENSION amcheck")
    assert "does not have the extension" in verify.amcheck(server.admin(copy), server.programs).left_out
