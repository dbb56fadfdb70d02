"""The API behind Keystone's middleware, with a real Keystone: who sees what, and when nobody."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from hashring.alarms.database import migrations
from hashring.alarms.database.engine import Database, default_url
from tests.alarms.beside import python_beside
from tests.conftest import TREE
from tests.servers import openstack
from tests.servers.keystone import PASSWORD, KeystoneServer
from tests.servers.process import Server

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

A_RULE = ["--query", "up", "--threshold", "1", "--comparison-operator", "lt"]


class API(Server):
    """``hashring alarm api`` as an operator starts it, with Keystone's middleware.

    Args:
        python: of an environment with the middleware.
        keystone: a server that runs.
    """

    def __init__(self, python, keystone):
        super().__init__()
        self._python = python
        url = default_url(self.folder)
        database = Database(url)
        migrations.migrate(database)
        database.close()
        (self.folder / "aodh.conf").write_text(
            f"[database]\nconnection = {url}\n"
            f"[keystone_authtoken]\nwww_authenticate_uri = {keystone.url}\n"
            f"auth_type = password\nauth_url = {keystone.url}\nusername = aodh\n"
            f"password = {PASSWORD}\nproject_name = service\nuser_domain_id = default\n"
            "project_domain_id = default\ninterface = public\nregion_name = R\n"
            # What was found out of a token is not remembered: each request asks.
            "token_cache_time = -1\nhttp_request_max_retries = 0\n"
        )

    @property
    def url(self):
        return f"http://{self.address}"

    def command(self):
        start = ["env", f"PYTHONPATH={TREE}", str(self._python), "-W", "ignore", "-m", "hashring"]
        listen = ["--listen", self.address, "--auth-mode", "keystone"]
        return [*start, "alarm", "api", "--config-file", "aodh.conf", *listen]

    def ready(self):
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(f"{self.url}/healthcheck", timeout=20).status == 200
        return False

    def ask(self, token, path="/v2/alarms"):
        """Return status and body of an answer to a holder of a token; ``None``: of none."""
        headers = {} if token is None else {"X-Auth-Token": token}
        request = urllib.request.Request(self.url + path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


@pytest.fixture(scope="module")
def keystone():
    with KeystoneServer() as server:
        server.let_there_be("aodh", "service", "admin")
        for user, project in (("u1", "p1"), ("u2", "p2")):
            server.let_there_be(user, project, "member")
        server.let_there_be("looks-on", "p1", "reader")
        yield server


@pytest.fixture(scope="module")
def api(keystone, tmp_path_factory):
    python = python_beside(tmp_path_factory.mktemp("keystone"), "keystone")
    with API(python, keystone) as server:
        keystone.serve_at("alarming", server.url)
        yield server
        sys.stdout.write((server.folder / "server.log").read_text()[-6000:])  # where a test failed


def aodh(keystone, user, project, *words):
    """Run Aodh's client as a user does, with what the dashboard gives them; return its JSON."""
    variables = {
        "OS_AUTH_URL": keystone.url,
        "OS_USERNAME": user,
        "OS_PASSWORD": PASSWORD,
        "OS_PROJECT_NAME": project,
        "OS_USER_DOMAIN_ID": "default",
        "OS_PROJECT_DOMAIN_ID": "default",
        "OS_REGION_NAME": "R",
        "OS_IDENTITY_API_VERSION": "3",
        "PATH": os.environ["PATH"],
        "HOME": str(keystone.folder),
    }
    python = openstack.python_with_services()
    done = subprocess.run(
        [python, "-W", "ignore", python.parent / "aodh", *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=variables,
    )
    if done.returncode:
        return done.returncode, done.stdout + done.stderr
    return 0, json.loads(done.stdout) if done.stdout.strip() else None


def names(found):
    code, rows = found
    assert code == 0, rows
    return sorted(row["name"] for row in rows)


def test_a_projects_users_see_their_own_alarms_alone_and_an_administrator_all(keystone, api):
    create = ["alarm", "create", "-t", "prometheus", *A_RULE, "-f", "json", "--name"]
    code, made = aodh(keystone, "u1", "p1", *create, "of p1")
    assert code == 0, made
    code, other = aodh(keystone, "u2", "p2", *create, "of p2")
    assert code == 0, other
    seen = ["alarm", "list", "-f", "json"]
    assert names(aodh(keystone, "u1", "p1", *seen)) == ["of p1"]
    assert names(aodh(keystone, "u2", "p2", *seen)) == ["of p2"]
    everything = [*seen, "--filter", "all_projects=true"]
    assert names(aodh(keystone, "admin", "admin", *everything)) == ["of p1", "of p2"]
    assert aodh(keystone, "u1", "p1", *everything)[0] != 0
    code, why = aodh(keystone, "u1", "p1", "alarm", "delete", other["alarm_id"])
    assert code != 0
    assert "not found" in why
    # One who looks on sees, and changes nothing.
    assert names(aodh(keystone, "looks-on", "p1", *seen)) == ["of p1"]
    code, why = aodh(keystone, "looks-on", "p1", "alarm", "delete", made["alarm_id"])
    assert code != 0
    assert "403" in why
    assert aodh(keystone, "u1", "p1", "alarm", "delete", made["alarm_id"]) == (0, None)


def test_a_token_that_has_ended_or_never_was_is_refused(keystone, api):
    token = keystone.token("u1", "p1")
    assert api.ask(token)[0] == 200
    administrators = keystone.token("admin", "admin")
    keystone.ask("DELETE", "/auth/tokens", token=administrators, **{"X-Subject-Token": token})
    assert api.ask(token)[0] == 401
    assert api.ask("made up")[0] == 401
    assert api.ask(None)[0] == 401
    status, _ = api.ask(keystone.token("u1", "p1"))
    assert status == 200


def test_while_keystone_is_away_nobody_is_told_that_they_are_wrong(keystone, api):
    token = keystone.token("u1", "p1")
    keystone.kill()
    status, why = api.ask(token)
    assert (status, "Keystone" in why) == (503, True)
    keystone.start()
    assert api.ask(token)[0] == 200
    # One that takes connections and says nothing holds no thread for long.
    keystone.pause()
    status, why = api.ask(token)
    assert (status, "Keystone" in why) == (503, True)
    keystone.resume()
    assert api.ask(token)[0] == 200
