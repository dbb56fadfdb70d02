"""Spools of a test's own, and what a process that ended left behind."""

import pytest

from hashring.telemetry.delivery.spool import Spool
from tests.telemetry.spool.holding import MIB, A, files, to


@pytest.fixture
def opened(tmp_path):
    """Open spools in one folder; close them in the end."""
    spools = []

    def open_(**options):
        spool = Spool(tmp_path, **{"max_bytes": MIB} | options)
        spools.append(spool)
        return spool

    yield open_
    for spool in spools:
        spool.close()


@pytest.fixture
def orphan(opened, tmp_path):
    """Leave samples behind, as a process that ended would; return their spool's path."""

    def leave(found, urls=(A,), **options):
        before = set(files(tmp_path))
        spool = opened(**options)
        spool.put(to(urls, found))
        spool.close()
        (path,) = set(files(tmp_path)) - before
        return path

    return leave
