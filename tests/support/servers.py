"""The PostgreSQL servers that a test is tried on: the packaged one, which every machine has, for every change; the system's too."""

from __future__ import annotations

import pytest

SERVERS = [pytest.param("system", marks=pytest.mark.slow), "packaged"]
