"""`python -m migrations upgrade`: bring the database at DATABASE_URL to the newest schema. `current`: say where it is."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import sqlalchemy
import sqlalchemy.exc
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from zhiyun.settings import DatabaseSettings, SettingsError, load

# Two upgrades at once (two hosts starting together) wait for each other on this advisory lock.
_LOCK = 0x7A6879_01


def upgrade(database_url: str) -> tuple[str | None, str | None]:
    """Run what is missing, in one transaction. Gives the schema version before and after."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    engine = sqlalchemy.create_engine(_sqlalchemy_url(database_url), poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        context = MigrationContext.configure(connection, opts={"version_table": "schema_version"})
        before = context.get_current_revision()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return before, ScriptDirectory.from_config(config).get_current_head()


def _sqlalchemy_url(database_url: str) -> str:
    return "postgresql+psycopg://" + database_url.split("://", 1)[1]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m migrations", description=__doc__)
    parser.add_argument("command", choices=["upgrade", "current"])
    arguments = parser.parse_args()
    try:
        url = load(DatabaseSettings).url
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        if arguments.command == "current":
            engine = sqlalchemy.create_engine(_sqlalchemy_url(url), poolclass=sqlalchemy.NullPool)
            with engine.connect() as connection:
                print(
                    MigrationContext.configure(
                        connection, opts={"version_table": "schema_version"}
                    ).get_current_revision()
                )
            return 0
        before, after = upgrade(url)
    except sqlalchemy.exc.OperationalError as error:
        print(
            f"DATABASE_URL: the database cannot be reached; nothing was changed: {str(error.orig).strip()}",
            file=sys.stderr,
        )
        return 1
    except CommandError as error:
        print(
            f"The database's schema is not one that this release knows; nothing was changed: {error}", file=sys.stderr
        )
        return 1
    print(f"database schema: {after}" if before == after else f"database schema: {before or 'empty'} -> {after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
