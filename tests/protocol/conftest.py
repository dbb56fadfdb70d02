"""A store for hand-offs in lockstep."""

import pytest

from tests.protocol.group import Store


@pytest.fixture
def store():
    return Store()
