"""docs/openstack says what is so: its settings and commands, and the way from tooz and back."""

from __future__ import annotations

import dataclasses
import re
import signal
import subprocess
import tomllib
from pathlib import Path

import pytest
from tooz import coordination, locking, partitioner

import hashring
from hashring.compat.tooz_options import Options
from tests.conftest import TREE
from tests.servers import openstack
from tests.servers.redis import RedisServer
from tests.tooz import cinder, pages
from tests.tooz.designate import Producers

PAGES = ("index", "ceilometer", "gnocchi", "aodh", "designate", "locks")


def test_every_command_of_the_pages_is_one_that_the_tests_run() -> None:
    extras = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]
    for page in PAGES:
        for command in pages.commands(page):
            if command.startswith("pip install"):
                (named,) = re.findall(r"'hashring-ha\[([\w,]+)\]'", command)
                assert {*named.split(",")} <= extras["optional-dependencies"].keys()
            else:
                assert re.match(r"hashring group \w+ redis://127\.0\.0\.1:6379( |$)", command)


def test_the_lines_for_unit_files_are_those_that_the_tests_set() -> None:
    lines = [value for page in PAGES for (section, _), value in pages.settings(page).items()
             if section == "Service"]  # fmt: skip
    native = [f"{name}={value}" for name, value in cinder.NATIVE.items()]
    assert sorted(lines) == sorted(["PYTHONHASHSEED=0", *native])


# All public names of uhashring 2.5's `HashRing`.
UHASHRING = {
    "add_node", "conf", "continuum", "distribution", "get", "get_instances", "get_key", "get_node",
    "get_node_hostname", "get_node_instance", "get_node_port", "get_node_pos", "get_node_weight",
    "get_nodes", "get_points", "get_server", "hashi", "iterate_nodes", "nodes", "print_continuum",
    "range", "regenerate", "remove_node", "ring", "runtime", "size",
}  # fmt: skip


def test_the_page_on_tooz_says_what_there_is_to_know_in_the_order_of_a_change() -> None:
    text = (TREE / "docs" / "tooz.md").read_text()
    marks = [
        "## Change one line", "backend_url = hashring+redis://", "Environment=PYTHONHASHSEED=0",
        "## What gets better", "## What stays as it is", "## Change a running fleet over",
        "## Options", "## The calls of tooz, one by one", "## The calls of uhashring, one by one",
    ]  # fmt: skip
    assert [text.index(mark) for mark in marks] == sorted(text.index(mark) for mark in marks)
    for option in dataclasses.fields(Options):
        named = {"ttl": "timeout", "lock_ttl": "lock_timeout"}.get(option.name, option.name)
        assert named == "url" or f"`{named}`" in part(text, "Options")


def part(text: str, heading: str) -> str:
    """Return what stands under a heading."""
    return text.partition(f"## {heading}\n")[2].partition("\n## ")[0]


def test_the_page_on_tooz_names_every_call_of_tooz_and_of_uhashring() -> None:
    text = (TREE / "docs" / "tooz.md").read_text()
    calls = {
        name
        for kind in (coordination.CoordinationDriver, locking.Lock, partitioner.Partitioner)
        for name in dir(kind)
        if not name.startswith("_") and not name.isupper()
    }
    assert calls - set(re.findall(r"\w+", part(text, "The calls of tooz, one by one"))) == set()
    table = part(text, "The calls of uhashring, one by one")
    assert set(re.findall(r"\w+", table)) >= UHASHRING
    for name in re.findall(r"`(?:\w+\()?(?:len\()?ring\.(\w+)", table):
        assert hasattr(hashring.HashRing, name), name


@pytest.mark.long
def test_ceilometers_groups_for_static_resources_have_one_name_with_the_line_of_the_page() -> None:
    program = "from ceilometer.polling import manager; print(manager.hash_of_set(['snmp://a', 'snmp://b']))"
    names = {
        subprocess.run(
            [str(openstack.python()), "-W", "ignore", "-c", program],
            env={"PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
        for _ in range(2)
    }
    assert len(names) == 1


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_fleet_changes_over_by_stopping_all_and_starting_all_and_goes_back(
    tmp_path: Path,
) -> None:
    with RedisServer() as server:
        for turn, scheme in enumerate(("redis", "hashring+redis", "redis")):
            folder = tmp_path / str(turn)
            folder.mkdir()
            producers = Producers(folder, f"{scheme}://{server.address}?timeout=5")
            try:
                first, _ = producers.start(), producers.start()
                producers.wait_for_shares(2)
                if scheme == "hashring+redis":
                    pages.check_settings("designate", folder / "designate.conf")
                    for page in ("index", "designate"):
                        printed = pages.run_commands(page, server.url, shares=False)
                        assert "2 members" in printed[-1]
                producers.signal(first, signal.SIGTERM)
            finally:
                producers.stop()
            if scheme != "redis":
                producers.check_log()
