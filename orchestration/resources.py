"""What assets and sensors reach the outside with. Opened by each use, since runs are processes of their own."""

from collections.abc import Generator
from contextlib import contextmanager

import dagster as dg

from knowledge.database import Connection, connect, writer
from knowledge.releases.collection import Collections
from zhiyun.settings import DatabaseSettings, QdrantSettings, load


class Stores(dg.ConfigurableResource[None]):
    """The catalogue (DATABASE_URL) and the vector store (QDRANT_URL)."""

    @contextmanager
    def catalog(self) -> Generator[Connection]:
        """A connection that only reads, or writes what needs no lock."""
        with connect(load(DatabaseSettings)) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Generator[Connection]:
        """A connection that holds the catalogue's writer lock."""
        with self.catalog() as connection, writer(connection):
            yield connection

    @contextmanager
    def collections(self) -> Generator[Collections]:
        collections = Collections(load(QdrantSettings))
        try:
            yield collections
        finally:
            collections.close()
