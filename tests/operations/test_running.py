"""What the pages on running say: files that are right, commands that work, procedures that hold."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
import tomllib
from collections import Counter

import pytest
import yaml

import hashring
from hashring.errors import GroupMismatch, HashringError
from hashring.page.wsgi import Routes
from hashring.telemetry.config import options
from tests.conftest import TREE
from tests.page.scenes import large_group, served
from tests.servers.process import wait_until
from tests.servers.redis import RedisServer

FOLDER = TREE / "docs" / "operations" / "running"


@pytest.fixture(scope="module")
def dockerfile():
    """The instructions of the Dockerfile, as pairs."""
    text = (FOLDER / "Dockerfile").read_text().replace("\\\n", " ")
    return [tuple(line.split(" ", 1)) for line in text.splitlines() if line and line[0] != "#"]


def test_the_image_installs_extras_that_there_are_and_is_not_root(dockerfile):
    project = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]
    extras = {
        name
        for what, text in dockerfile
        if what == "RUN"
        for found in re.findall(r"/source\[([\w,]+)\]", text)
        for name in found.split(",")
    }
    assert extras
    assert extras <= project["optional-dependencies"].keys()
    stages = [number for number, (what, _) in enumerate(dockerfile) if what == "FROM"]
    assert [text for what, text in dockerfile[stages[-1] :] if what == "USER"] == ["10001"]
    entry = [json.loads(text) for what, text in dockerfile if what in ("ENTRYPOINT", "CMD")]
    assert entry[0] == ["hashring", "agent"]
    helped = [sys.executable, "-m", *entry[0], entry[1][0], "--help"]
    told = subprocess.run(helped, capture_output=True, text=True, timeout=150, check=True).stdout
    assert all(word in told for word in entry[1] if word.startswith("--"))


@pytest.mark.parametrize(("is_ready", "code"), [(True, 0), (False, 1)])
def test_the_health_check_asks_whether_the_agent_is_ready(dockerfile, is_ready, code):
    (check,) = (text for what, text in dockerfile if what == "HEALTHCHECK")
    program, *arguments = json.loads(check.partition(" CMD ")[2])
    assert program == "python"
    (listen,) = re.findall(r"OS_HASHRING__LISTEN=(\S+)", " ".join(map(" ".join, dockerfile)))
    app = large_group(2)
    if not is_ready:
        app = Routes(hashring.page.Watcher(lambda: []), "no metrics")

    with served(app) as address:
        here = address.removeprefix("http://").removesuffix("/ring")
        assert any(listen in argument for argument in arguments)
        arguments = [argument.replace(listen, here) for argument in arguments]
        done = subprocess.run(
            [sys.executable, *arguments], capture_output=True, timeout=150, check=False
        )

    assert done.returncode == code, done.stderr


def test_the_manifest_asks_for_paths_that_there_are_and_gives_time_to_hand_over(tmp_path):
    config, deployment = yaml.safe_load_all((FOLDER / "agent.yaml").read_text())
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    files = {name: tmp_path / name for name in config["data"]}
    for name, path in files.items():
        path.write_text(config["data"][name].replace("/etc/hashring", str(tmp_path)))
    settings = options.load(config_dirs=[tmp_path], environment=False)

    assert pod["terminationGracePeriodSeconds"] > settings.drain_timeout
    assert settings.listen == f"0.0.0.0:{container['ports'][0]['containerPort']}"
    assert settings.polling_file == files["polling.yaml"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts == {"/etc/hashring", "/var/lib/hashring"}


@pytest.fixture(scope="module")
def redis():
    with RedisServer() as found:
        found.wait_ready()
        yield found


def test_a_password_is_changed_without_a_gap(redis):
    """docs/operations/running/changes.md: two passwords for a while, and a rolling restart."""
    rights = ("~hashring:*", "&hashring:*", "+@all")
    with redis.client() as admin:
        admin.execute_command("ACL", "SETUSER", "agents", "on", ">OLD", *rights)

        def join(member, password):
            url = f"redis://agents:{password}@{redis.address}"
            return hashring.join(url, "secret", member, ttl=10.0)

        a, b = join("a", "OLD"), join("b", "OLD")
        wait_until(lambda: {a.state, b.state} == {"settled"} and len(a.members) == 2)
        admin.execute_command("ACL", "SETUSER", "agents", ">NEW")

        assert b.drain(60)
        wait_until(lambda: len(a.held) == 65536)  # whoever is left works all of it meanwhile
        b = join("b", "NEW")
        wait_until(lambda: {a.state, b.state} == {"settled"} and len(b.members) == 2)
        assert a.drain(60)
        a = join("a", "NEW")
        wait_until(lambda: {a.state, b.state} == {"settled"} and len(b.members) == 2)
        admin.execute_command("ACL", "SETUSER", "agents", "<OLD")

        with pytest.raises(HashringError):
            join("c", "OLD")
        c = join("c", "NEW")
        wait_until(lambda: {a.state, b.state, c.state} == {"settled"} and len(c.members) == 3)
        assert a.stats.fenced_seconds == b.stats.fenced_seconds == 0
        for one in (a, b, c):
            one.leave()


def test_the_lease_is_changed_by_stopping_all_and_starting_all(redis):
    """docs/operations/running/changes.md: who comes too early is refused; no window comes twice."""
    worked, missed = [], Counter()

    def work(member, ttl, stop):
        with hashring.join(redis.url, "lease", member, ttl=ttl, wait=60) as partition:
            loop = partition.cycles(0.5)
            for cycle in loop:
                missed[member, ttl] = loop.missed
                worked.extend((cycle.window, key) for key in cycle.owned(map(str, range(20))))
                if stop.is_set():
                    return

    def run(ttl, stop):
        found = [threading.Thread(target=work, args=(name, ttl, stop)) for name in "ab"]
        for thread in found:
            thread.start()
        return found

    first, second = threading.Event(), threading.Event()
    threads = run(6.0, first)
    wait_until(lambda: len({window for window, _ in worked}) > 3)
    with pytest.raises(GroupMismatch):
        hashring.join(redis.url, "lease", "early", ttl=8.0)
    first.set()
    for thread in threads:
        thread.join(60)
    last = max(window for window, _ in worked)
    wait_until(lambda: time.time() // 0.5 > last, what="the next window")

    threads = run(8.0, second)
    wait_until(lambda: len({window for window, _ in worked if window > last}) > 3)
    second.set()
    for thread in threads:
        thread.join(60)

    assert len(worked) == len(set(worked))
    after = sorted({window for window, _ in worked if window > last})
    if not missed.total():  # by a machine that stood still
        assert after == list(range(after[0], after[-1] + 1))
