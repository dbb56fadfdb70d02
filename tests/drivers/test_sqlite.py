"""``sqlite:///path`` beyond the conformance suite."""

from __future__ import annotations

import pytest

from hashring.testing import DriverSuite


class TestSQLiteStore(DriverSuite):
    ttl = 1.0

    @pytest.fixture
    def url(self, tmp_path):
        return f"sqlite://{tmp_path}/group.db"
