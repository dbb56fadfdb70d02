"""Under threads that eventlet has replaced, our backend says so, and what to do."""

from __future__ import annotations

from pathlib import Path

from tests.servers import openstack
from tests.tooz.service import Services


def test_threads_that_eventlet_has_replaced_are_refused_with_what_to_do(tmp_path: Path) -> None:
    services = Services(tmp_path, openstack.python())
    services.install("hashring_green")
    url = f"hashring+sqlite:///{tmp_path}/group.db"

    def started(patched: str) -> str:
        return services.run("hashring_green:start", "start", url, patched)

    told = started("patched")
    assert "needs real threads, and those of this process are greenlets" in told
    assert "OS_CINDER_DISABLE_EVENTLET_PATCHING=true" in told
    assert started("imported") == "started", "it is there, and has replaced nothing"
