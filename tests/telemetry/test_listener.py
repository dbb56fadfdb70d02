"""An agent's listener: its page, its metrics, its probes, on a port or a Unix socket."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import time
import urllib.request

import jsonschema
import pytest

import hashring.page
from hashring.telemetry.agent.listener import Listener
from hashring.telemetry.agent.metrics import AGENT_METRICS
from hashring.telemetry.errors import CannotListen
from hashring.telemetry.model.listen import ListenAddress
from tests.servers.process import free_port
from tests.telemetry.conftest import Agents, until


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=60)
        self._path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(self._path)


def get(port, path, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


@pytest.fixture(scope="module")
def agents(tmp_path_factory):
    found = Agents(tmp_path_factory.mktemp("listening"))
    yield found
    found.end()


@pytest.fixture(scope="module")
def port(agents):
    found = free_port()
    agents.start("a", "--interval", "0.5", "--ttl", "30", "--listen", f"127.0.0.1:{found}")
    agents.settle("a")
    until(lambda: agents.status("a").get("polls", 0) > 5, "it has polled")
    return found


def test_the_status_file_and_the_page_say_the_same_and_both_keep_to_the_schema(agents, port):
    schema = hashring.page.schema()
    code, body = get(port, "/ring", Accept="application/json")
    assert code == 200
    served, written = json.loads(body), agents.status("a")

    for found in (served, written):
        jsonschema.validate(found, schema)
        assert found.keys() == schema["properties"].keys() - {"alarms"}  # an evaluator's
    assert served["groups"].keys() == written["groups"].keys() == {"test"}
    assert served["member"] == written["member"] == "a"
    assert abs(served["written_at"] - time.time()) < 60
    (counts,) = served["sources"]["test"].values()
    assert counts["ok"] > 5
    assert counts["seconds"] > 0


def test_the_file_of_a_live_agent_is_written_again_and_again(agents, port):
    before = agents.status("a")["written_at"]
    until(lambda: agents.status("a")["written_at"] > before + 1, "it is written again")


def test_promtool_accepts_the_metrics_and_all_of_an_agents_are_there(port):
    promtool = shutil.which("promtool")
    assert promtool is not None, "tests/servers/install.sh installs prometheus"
    code, text = get(port, "/metrics")
    assert code == 200

    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, timeout=60, check=False
    )

    assert (done.returncode, done.stderr) == (0, b""), done.stdout + done.stderr
    for metric in AGENT_METRICS:
        assert f"# TYPE {metric.name}".encode() in text
    assert b'hashring_polls_total{group="test",outcome="ok",source="all"}' in text
    assert b'hashring_slots_held{group="test"} 65536.0' in text
    assert b'hashring_samples_total{outcome="sent",publisher="file://' in text


def test_probes_answer_and_a_browser_gets_the_page(port):
    assert get(port, "/livez") == (200, b"alive\n")
    assert get(port, "/readyz") == (200, b"ready\n")
    assert b"<!doctype html>" in get(port, "/ring", Accept="text/html")[1]


def test_a_port_that_is_taken_is_an_error_that_says_what_to_do(agents, port):
    agents.start("b", "--listen", f"127.0.0.1:{port}")
    assert agents.processes["b"].wait(60) == 1
    assert f"[hashring] listen = 127.0.0.1:{port}" in agents.said("b")
    assert "name another address" in agents.said("b")


def test_workers_listen_on_ports_after_each_other(agents):
    first = free_port()
    while (following := free_port()) != first + 1:  # the next one is kept free as well
        first = following
    # A group of their own. In that of the others, whose ttl is another, they would end at once,
    # again and again, and answer in between by luck alone.
    options = ("--group", "workers", "--workers", "2", "--listen", f"127.0.0.1:{first}")
    agents.start("w", *options, status_file=False)
    for number in (0, 1):

        def answers(number=number):
            try:
                found = json.loads(get(first + number, "/ring")[1])
            except OSError:
                return False
            return found["member"] == f"w.{number + 1}"

        until(answers, f"worker {number + 1} answers")


def test_an_agent_is_drained_by_its_page_and_its_process_ends(agents, port, tmp_path):
    """The one that serves the page may be the one that it is asked to drain."""
    here, token = free_port(), tmp_path / "token"
    token.write_text("correct-horse-battery\n")
    options = ("--listen", f"127.0.0.1:{here}", "--token-file", str(token))
    agents.start("t", "--interval", "0.5", "--ttl", "30", *options)
    agents.settle("a", "t")
    connection = http.client.HTTPConnection("127.0.0.1", here, timeout=60)
    connection.request(
        "POST",
        "/ring/acts/drain",
        json.dumps({"group": "test", "member": "t", "by": "alice"}),
        {"Authorization": "Bearer correct-horse-battery", "Content-Type": "application/json"},
    )
    answer = connection.getresponse()
    said = json.loads(answer.read())
    connection.close()

    assert answer.status in (200, 202), said
    assert (said["what"], said["member"]) == ("drain", "t")
    assert agents.processes["t"].wait(60) == 0
    agents.settle("a")
    assert "by 'alice, by the page from 127.0.0.1'" in agents.said("t")
    assert "correct-horse" not in agents.said("t")


def app(environ, start):
    start("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


def test_a_unix_socket_serves_and_goes_with_its_agent(tmp_path):
    path = tmp_path / "agent.sock"
    with Listener(ListenAddress(path=str(path)), app):
        assert path.stat().st_mode & 0o777 == 0o660
        connection = UnixConnection(path)
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"hello"
        connection.close()
        with pytest.raises(CannotListen, match="another process listens there"):
            Listener(ListenAddress(path=str(path)), app)
    assert not path.exists()


def test_a_socket_that_a_killed_agent_left_is_taken_over_and_a_file_is_not(tmp_path):
    path = tmp_path / "agent.sock"
    abandoned = socket.socket(socket.AF_UNIX)
    abandoned.bind(str(path))
    abandoned.close()
    with Listener(ListenAddress(path=str(path)), app):
        connection = UnixConnection(path)
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
        connection.close()
    path.write_text("precious")
    with pytest.raises(CannotListen, match="no socket"):
        Listener(ListenAddress(path=str(path)), app)
    assert path.read_text() == "precious"


def test_a_free_port_is_told_in_the_address():
    with (
        Listener(ListenAddress("127.0.0.1", 0), app) as listener,
        urllib.request.urlopen(f"http://{listener.address}/", timeout=60) as answer,
    ):
        assert answer.read() == b"hello"


@pytest.mark.parametrize(
    "text",
    ["9465", "host", "host:99999", "unix:relative", "unix:", "a b:1", "http://host:1", "::1"],
)
def test_an_address_that_is_invalid_is_refused(text):
    with pytest.raises(ValueError, match=r"must"):
        ListenAddress.parse(text)
