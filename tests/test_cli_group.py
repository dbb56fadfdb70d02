"""``hashring group``: its commands on a real store, their output and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import hashring
from hashring.cli import main
from tests.servers.process import wait_until

TTL = 30.0  # far longer than any of these tests


@pytest.fixture
def url(tmp_path):
    return f"sqlite://{tmp_path}/group.db"


@pytest.fixture
def members(url):
    """Two members that have settled, by id."""
    with (
        hashring.join(url, "pollers", "a", ttl=TTL) as a,
        hashring.join(url, "pollers", "b", ttl=TTL) as b,
    ):
        wait_until(lambda: main(["group", "describe", url, "pollers"]) == 0)
        # A mark is in the store a moment before its author acts on it.
        wait_until(lambda: a.state == b.state == "settled")
        yield {"a": a, "b": b}
        a.leave()
        b.leave()


@pytest.fixture
def group(url, capsys):
    """A function that runs a command on the store: its exit code, and what it printed."""

    def run(command, *arguments):
        capsys.readouterr()
        code = main(["group", command, url, *arguments])
        told = capsys.readouterr()
        return code, told.out + told.err

    return run


def test_groups_are_listed(members, group):
    assert group("list") == (0, "pollers\n")
    code, told = group("list", "--json")
    assert (code, json.loads(told)["groups"]) == (0, ["pollers"])


def test_a_settled_group_is_described_in_a_table_and_as_json(members, group):
    code, told = group("describe", "pollers")
    assert code == 0
    assert "2 members, settled" in told
    assert [line.split()[:2] for line in told.splitlines()[3:5]] == [
        ["a", "settled"],
        ["b", "settled"],
    ]

    code, told = group("describe", "pollers", "--json")
    found = json.loads(told)
    assert code == 0
    assert [member["id"] for member in found["members"]] == ["a", "b"]
    assert found["memory_age"] is None


def test_a_group_that_waits_is_trouble_and_says_for_whom(members, group, url):
    with members["a"].cycle(), hashring.join(url, "pollers", "c", ttl=TTL) as c:
        wait_until(lambda: "waits: c for a" in group("describe", "pollers")[1])

        code, told = group("describe", "pollers")
        assert code == 1
        assert "since" in told
        code, told = group("can-stop", "pollers", "a")
        assert code == 1
        assert told.startswith("no: a")
        assert "c waits for" in told
        c.leave()


def test_a_member_that_can_be_stopped_is_and_nobody_misses_a_window(members, group):
    assert group("can-stop", "pollers", "a") == (
        0,
        "yes: a can be stopped (SIGTERM hands over)\n",
    )
    members["a"].drain(timeout=60)
    wait_until(lambda: group("describe", "pollers")[0] == 0)
    assert members["b"].stats.windows_missed == 0
    assert group("can-stop", "pollers", "b")[0] == 1


def test_the_owner_of_a_key_is_told(members, group):
    code, told = group("owner", "pollers", "one", "two", "--json")
    owners = {found["key"]: found for found in json.loads(told)}

    assert code == 0
    for key in ("one", "two"):
        assert owners[key]["owner"] == owners[key]["holder"] == members["a"].owner(key)
    assert "why they differ" in group("owner", "pollers", "one")[1]


def test_a_preview_counts_slots_and_keys(members, group, tmp_path):
    file = tmp_path / "keys"
    file.write_text("".join(f"key-{number}\n" for number in range(1000)))

    arguments = ("--add", "c=2", "--remove", "a", "--keys", str(file))
    code, told = group("preview", "pollers", *arguments, "--json")
    found = json.loads(told)

    assert code == 0
    assert found["of_keys"] == 1000
    assert 0 < found["keys"] < 1000
    assert sum(found["after"].values()) == 65536
    assert "a" not in found["after"]
    assert "slots would move" in group("preview", "pollers", *arguments)[1]


def test_a_watch_describes_what_is_there(members, group):
    code, told = group("watch", "pollers", "--count", "1", "--json")

    assert (code, json.loads(told)["is_settled"]) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("can-stop", "pollers", "x"), "there are: a, b"),
        (("preview", "pollers", "--remove", "x"), "no member 'x'"),
        (("preview", "pollers", "--add", "x=heavy"), "is not a weight"),
        (("describe", ""), "must not be empty"),
        (("owner", "pollers"), "Missing argument"),
    ],
)
def test_what_is_asked_for_wrongly_is_said_with_exit_code_2(members, group, arguments, word):
    code, told = group(*arguments)

    assert code == 2
    assert word in told


def test_an_id_cannot_send_codes_to_a_terminal(url, group):
    with hashring.join(url, "pollers", "web\x1b[2J1", ttl=TTL) as partition:
        assert partition.wait_settled(60)
        _, told = group("describe", "pollers")
        partition.leave()

    assert "\x1b" not in told
    assert r"web\x1b[2J1" in told


def test_the_commands_need_click_and_the_core_alone():
    program = (
        "import sys, hashring.cli.group\n"
        "absent = {'rich', 'yaml', 'oslo_config', 'urllib3', 'pytest', 'hashring.telemetry'}\n"
        "assert not absent & sys.modules.keys(), absent & sys.modules.keys()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == 0, done.stderr
