"""An agent whose store is away: it says so in few lines, and ends before a container is killed."""

from pathlib import Path

from tests.servers.http import Answer, HTTPServer
from tests.servers.redis import RedisServer
from tests.telemetry.conftest import until
from tests.telemetry.fleet import fleet

LOAD = {
    "name": "web.load",
    "sample_type": "gauge",
    "unit": "request",
    "value_attribute": "load",
}


def test_an_agent_whose_redis_is_gone_says_little_and_ends_when_it_is_told_to(
    tmp_path: Path,
) -> None:
    with HTTPServer() as web, RedisServer() as store:
        web.otherwise(lambda asked: Answer({"load": 0.5}))
        source = {
            "name": "web",
            "interval": 1,
            "meters": ["web.*"],
            "resources": [f"{web.url}/{n}" for n in range(5)],
            "local": False,
        }
        with fleet(
            tmp_path, store.url, [source], definitions=[LOAD], sections={"hashring": {"ttl": 3.0}}
        ) as agents:
            agents.start("central", "a")
            agents.settle("a")
            before = len(agents.said("a").splitlines())
            store.kill()

            def says_why() -> bool:
                (group,) = agents.status("a")["groups"].values()
                return (group["state"], group["reason"]) == ("fenced", "the store is away")

            until(says_why, "the agent is fenced, and says why")

            # Twice what Docker allows: a busy machine is slow to start and end processes.
            agents.stop("a", within=20)

            said = agents.said("a").splitlines()[before:]
            assert any("the store is away" in line for line in said)
            assert len(said) <= 10, "\n".join(said)
