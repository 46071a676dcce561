"""Where this checkout is: its files that are no modules (the lock file, migrations, dagster.yaml) are found from here."""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).absolute().parents[1]
