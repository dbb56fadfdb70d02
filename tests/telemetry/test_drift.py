"""Configurations that drift: hosts of one prefix whose files differ poll in groups of their own.

All meters are the same, so their names tell nothing. Both sides must say so all the same.
"""

from __future__ import annotations

import dataclasses
import http.client
import json
import signal
import uuid

import pytest
import yaml

from hashring.telemetry.errors import BadAnnouncement
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.overlap.announcements import Announcements
from hashring.telemetry.overlap.groups import check_groups
from hashring.telemetry.overlap.overlap import Announcement, compare
from tests.servers.process import free_port
from tests.telemetry.conftest import Agents, until

METERS = frozenset({"http.up"})
ONE, OTHER = frozenset({"resources:1a2b every 60 s"}), frozenset({"resources:3c4d every 60 s"})


def agent(member, groups, **changes):
    found = Announcement(member, "web1", shared=METERS, shared_groups=groups)
    return dataclasses.replace(found, **changes)


def test_the_same_meters_in_other_groups_are_told_and_refuse_nobody():
    overlap = compare(agent("a", ONE), agent("b", OTHER, host="web2"))

    assert overlap is not None
    assert (overlap.my_groups, overlap.their_groups) == (tuple(ONE), tuple(OTHER))
    assert not overlap.is_refused
    said = overlap.describe()
    assert "only 'a' polls in resources:1a2b every 60 s" in said
    assert "only 'b' polls in resources:3c4d every 60 s" in said
    assert "polled twice" in said


@pytest.mark.parametrize(
    "other",
    [
        agent("b", ONE),
        agent("b", None),  # an older release, which does not tell
        agent("b", OTHER, prefix="two", shared=frozenset({"other"})),
        agent("b", OTHER, shared=frozenset()),
        agent("b", ONE | OTHER, namespaces=frozenset({"central", "compute"})),
    ],
    ids=["same", "silent", "other prefix", "nothing shared", "more namespaces"],
)
def test_what_is_no_difference_is_not_told(other):
    assert compare(agent("a", ONE), other) is None


def test_an_interval_that_differs_is_a_difference():
    one, other = frozenset({"discovery:x every 60 s"}), frozenset({"discovery:x every 10 s"})
    overlap = compare(agent("a", one), agent("b", other))
    assert overlap is not None
    assert "every 10 s" in overlap.describe()


def test_groups_come_back_from_an_announcement_as_they_went_in():
    mine = agent("a", ONE | OTHER, local=METERS, local_groups=frozenset())
    assert Announcement.parse(json.loads(json.dumps(mine.to_meta()))) == mine
    assert "shared_groups" not in agent("a", None).to_meta()


@pytest.mark.parametrize(
    "found", ["text", [1], [""], ["x" * 301], ["a\x1b[2J"], [str(n) for n in range(2001)], {}]
)
def test_what_a_stranger_announces_as_groups_is_bounded(found):
    with pytest.raises(BadAnnouncement, match="shared_groups"):
        Announcement.parse({**agent("a", ONE).to_meta(), "shared_groups": found})


def test_too_many_groups_are_not_announced_rather_than_refused():
    assert check_groups(f"resources:{n:016x} every 60 s" for n in range(1000)) is None


def test_an_agent_with_other_groups_starts_and_both_sides_say_so(until):
    url = f"memory://{uuid.uuid4().hex}"

    def made(member, groups):
        settings = Settings(backend_url=url, member=member, host="web1")
        return Announcements(settings, agent(member, groups))

    with made("a", ONE) as a, made("b", OTHER) as b:
        until(lambda: a.look() and b.look(), "both sides see it")
        (overlap,) = a.look()
        assert overlap.theirs.member == "b"

        b.update(agent("b", ONE))

        until(lambda: not a.look() and not b.look(), "it is over on both sides")


@pytest.fixture
def agents(tmp_path):
    found = Agents(tmp_path)
    yield found
    found.end()


def metric(port, name):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    (value,) = (line.split()[1] for line in text.splitlines() if line.startswith(f"{name} "))
    return float(value)


def test_two_polling_files_under_one_prefix_are_named_in_log_metrics_and_status(agents, tmp_path):
    ports = {name: free_port() for name in "ab"}

    def write_polling(name, interval):
        source = {"name": "all", "interval": interval, "meters": ["hardware.cpu.*"]}
        path = tmp_path / f"{name}-polling.yaml"
        path.write_text(yaml.safe_dump({"sources": [source]}))

    for name, port in ports.items():
        write_polling(name, {"a": 1, "b": 2}[name])
        (tmp_path / f"{name}.conf").write_text(
            f"[DEFAULT]\nhost = web1\n[coordination]\nbackend_url = {agents.url}\n"
            f"[polling]\ncfg_file = {tmp_path}/{name}-polling.yaml\n"
            f"[hashring]\nstate_dir = {tmp_path}/{name}\nlisten = 127.0.0.1:{port}\n"
            f"output = file://{tmp_path}/samples.jsonl\n"
        )
        agents.start_configured(name, tmp_path / f"{name}.conf")

    until(lambda: all(agents.status(name).get("overlaps") for name in "ab"), "it is told")
    for name, other in ("ab", "ba"):
        (said,) = agents.status(name)["overlaps"]
        assert f"only {other!r} polls in" in said
        assert metric(ports[name], "hashring_overlaps") == 1
        until(lambda name=name: "poll in different groups" in agents.said(name), "it is logged")

    write_polling("b", 1)
    agents.processes["b"].send_signal(signal.SIGHUP)

    until(lambda: not any(agents.status(name)["overlaps"] for name in "ab"), "it is over")
    until(lambda: "no longer at odds" in agents.said("a"), "that is logged")
