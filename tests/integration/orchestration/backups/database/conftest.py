"""A server that is left as it was found."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.backups.databases import Server


@pytest.fixture
def server(postgres_server: Server) -> Iterator[Server]:
    """A server that has afterwards the databases that it had before."""
    before = postgres_server.names()
    yield postgres_server
    postgres_server.drop(postgres_server.names() - before)
