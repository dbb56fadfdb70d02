"""Under threads that eventlet has replaced, our backend says so, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tooz
from tooz import coordination

from tests.servers import openstack
from tests.servers.redis import RedisServer
from tests.tooz.service import Services

pytestmark = pytest.mark.slow

STARTED = "started, and it is mine: True"


@pytest.fixture
def started(tmp_path: Path) -> Callable[[str, str], str]:
    services = Services(tmp_path, openstack.python())
    services.install("hashring_green")
    return lambda url, patched: services.run("hashring_green:start", "start", url, patched)


def test_threads_that_eventlet_has_replaced_are_refused_with_what_to_do(
    started, tmp_path: Path
) -> None:
    url = f"hashring+sqlite:///{tmp_path}/group.db"
    told = started(url, "patched")
    assert "the threads of this process are greenlets" in told
    assert "OS_CINDER_DISABLE_EVENTLET_PATCHING=true" in told
    assert "greenlets=allow" in told
    assert started(url, "imported") == STARTED, "it is there, and has replaced nothing"


def test_greenlets_are_let_in_where_the_url_says_so(started) -> None:
    with RedisServer() as server:
        url = f"hashring+{server.url}?timeout=2&settle=20&greenlets=allow"
        assert started(url, "patched") == STARTED


def test_greenlets_are_not_for_drivers_that_wait_in_c() -> None:
    for url in ("hashring+sqlite:///a.db?greenlets=allow", "hashring+redis://h?greenlets=yes"):
        with pytest.raises(tooz.ToozError, match="greenlets"):
            coordination.get_coordinator(url, b"a").start()
