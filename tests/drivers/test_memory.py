"""``memory://`` beyond the conformance suite: names, threads, and a fork."""

from __future__ import annotations

import uuid

import pytest

from hashring.testing import DriverSuite


class TestMemoryStore(DriverSuite):
    ttl = 1.0

    @pytest.fixture
    def url(self):
        return f"memory://{uuid.uuid4().hex}"
