"""Members that join one group on an embedded store, and leave it after the test."""

import contextlib
import threading
import uuid

import pytest

import hashring
from tests.partition.embedded.members import TTL, until


@pytest.fixture
def url():
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    before = set(threading.enumerate())
    yield
    until(lambda: not [t for t in threading.enumerate() if t not in before and t.is_alive()])


@pytest.fixture
def join(url):
    with contextlib.ExitStack() as stack:

        def joined(member, **options):
            where = options.pop("url", url)
            if isinstance(where, str):
                options.setdefault("ttl", TTL)
            partition = hashring.join(where, "group", member, **options)
            stack.callback(partition.leave)
            return partition

        yield joined
