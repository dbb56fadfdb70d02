"""What a server of the crowd's bench has counted, by its own counters: Redis and ZooKeeper."""

from __future__ import annotations

import abc
from dataclasses import dataclass, fields

import psutil

from hashring.clock import boottime
from tests.servers.process import Server
from tests.servers.redis import RedisServer
from tests.servers.zookeeper import ZooKeeperServer

__all__ = ["STORES", "Counts", "Store"]


@dataclass
class Counts:
    """What was done up to a moment, or between two."""

    requests: float
    inside: float
    pushed: float
    received: float
    sent: float
    server: float
    members: float

    def __sub__(self, other: Counts) -> Counts:
        return Counts(
            *(getattr(self, each.name) - getattr(other, each.name) for each in fields(self))
        )

    def scaled(self, factor: float) -> Counts:
        return Counts(*(getattr(self, each.name) * factor for each in fields(self)))


class Store(abc.ABC):
    """A server, its URLs, and its own counters."""

    server: Server
    inside: str

    @abc.abstractmethod
    def ours(self) -> str:
        """Return our URL."""

    @abc.abstractmethod
    def theirs(self) -> str:
        """Return tooz's URL."""

    @abc.abstractmethod
    def count(self, ours: bool) -> dict[str, float]:
        """Return ``requests``, ``inside``, ``pushed``, and bytes ``received`` and ``sent``."""

    def processor(self) -> float:
        times = psutil.Process(self.server.pid).cpu_times()
        return times.user + times.system


class Redis(Store):
    inside = "commands inside scripts"

    def __init__(self) -> None:
        self.server = RedisServer()

    def ours(self) -> str:
        return self.server.url

    def theirs(self) -> str:
        # A membership that outlasts the run needs no heartbeats.
        return f"{self.server.url}?timeout=10&membership_timeout=900"

    def count(self, ours: bool) -> dict[str, float]:
        with self.server.client() as client:
            info = client.info("stats")
            calls = {
                name.removeprefix("cmdstat_"): value["calls"]
                for name, value in client.info("commandstats").items()
            }
        everything = requests = info["total_commands_processed"]
        if ours:
            requests = sum(calls.get(name, 0) for name in ("evalsha", "eval", "subscribe"))
        return {
            "requests": requests,
            "inside": everything - requests,
            "pushed": calls.get("publish", 0),
            "received": info["total_net_input_bytes"],
            "sent": info["total_net_output_bytes"],
        }


class ZooKeeper(Store):
    inside = "of them writes"

    def __init__(self) -> None:
        self.server = ZooKeeperServer()

    def ours(self) -> str:
        return self.server.url

    def theirs(self) -> str:
        return f"{self.server.url}?timeout=60"

    def count(self, ours: bool) -> dict[str, float]:
        names = {
            "requests": "zk_packets_received",
            "inside": "zk_cnt_updatelatency",
            "pushed": "zk_packets_sent",
            "received": "zk_bytes_received_count",
            "sent": "zk_response_bytes",
        }
        found: dict[str, str] = {}
        until = boottime() + 60
        while not found.keys() >= set(names.values()) and boottime() < until:
            answer = self.server.ask("mntr")  # cut short where the server has no time
            found = dict(line.split("\t", 1) for line in answer.splitlines() if "\t" in line)
        counts = {name: float(found[theirs]) for name, theirs in names.items()}
        # Each request has one answer; what is sent beyond those are the watches' events.
        counts["pushed"] -= counts["requests"]
        return counts


STORES = {"redis": Redis, "zookeeper": ZooKeeper}
