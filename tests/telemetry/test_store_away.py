"""An agent whose store is away: it says so in few lines, and ends before a container is killed."""

from pathlib import Path

import pytest

from tests.servers.http import Answer, HTTPServer
from tests.servers.redis import RedisServer
from tests.servers.zookeeper import ZooKeeperServer
from tests.telemetry.conftest import until
from tests.telemetry.fleet import fleet

pytestmark = pytest.mark.slow

LOAD = {
    "name": "web.load",
    "sample_type": "gauge",
    "unit": "request",
    "value_attribute": "load",
}


@pytest.mark.parametrize(
    ("server", "goes_away"),
    [
        (RedisServer, "kill"),
        (RedisServer, "pause"),
        pytest.param(ZooKeeperServer, "kill", marks=pytest.mark.long),
    ],
)
def test_an_agent_whose_store_is_gone_says_little_and_ends_when_it_is_told_to(
    tmp_path: Path, server: type[RedisServer | ZooKeeperServer], goes_away: str
) -> None:
    with HTTPServer() as web, server() as store:
        web.otherwise(lambda asked: Answer({"load": 0.5}))
        source = {
            "name": "web",
            "interval": 1,
            "meters": ["web.*"],
            "resources": [f"{web.url}/{n}" for n in range(5)],
            "local": False,
        }
        # It would wait for ten minutes for the rest to take over.
        section = {"ttl": 3.0, "drain_timeout": 600.0}
        with fleet(
            tmp_path, store.url, [source], definitions=[LOAD], sections={"hashring": section}
        ) as agents:
            agents.start("central", "a")
            agents.settle("a")
            before = len(agents.said("a").splitlines())
            getattr(store, goes_away)()

            def says_why() -> bool:
                (group,) = agents.status("a")["groups"].values()
                return (group["state"], group["reason"]) == ("fenced", "the store is away")

            until(says_why, "the agent is fenced, and says why")

            # More than Docker allows: a busy machine is slow to start and end processes.
            agents.stop("a", within=90)

            said = agents.said("a").splitlines()[before:]
            assert any("the store is away" in line for line in said)
            assert len(said) <= 10, "\n".join(said)
