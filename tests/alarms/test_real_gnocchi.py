"""Rules on a real Gnocchi: the newest complete granules, of a metric, of several, of a search."""

from __future__ import annotations

import base64
import contextlib
import json
import math
import time
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hashring import clock
from hashring.alarms.model import RULES
from hashring.alarms.sources.gnocchi import GnocchiSource, Place
from tests.servers.mariadb import MariaDBServer
from tests.servers.process import Server

RELEASE = "gnocchi[mysql]==4.7.1"
RESOURCE = "5a301761-aaaa-46e2-8900-8b4f6fe6675a"
COMMON = {
    **{"comparison_operator": "gt", "threshold": 5, "aggregation_method": "mean"},
    **{"evaluation_periods": 2, "granularity": 60},
}

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


class GnocchiServer(Server):
    """Gnocchi's API, its index in a MariaDB, its measures in files."""

    def __init__(self, environment, database):
        super().__init__()
        self._environment = environment
        folder, index = self.folder, database.url.replace("mysql://", "mysql+pymysql://")
        self._conf = folder / "gnocchi.conf"
        self._conf.write_text(
            f"[DEFAULT]\ncoordination_url = file://{folder}/coordination\n"
            f"[indexer]\nurl = {index}\n[api]\nauth_mode = basic\n"
            f"[storage]\ndriver = file\nfile_basepath = {folder}/data\n"
            f"[incoming]\ndriver = file\nfile_basepath = {folder}/data\n"
        )
        upgrade = environment.folder / "bin" / "gnocchi-upgrade"
        environment.run(upgrade, "--config-file", self._conf)

    def command(self):
        script = Path(__file__).with_name("gnocchi_server.py")
        return [str(self._environment.python), str(script), str(self._conf), str(self.port)]

    def ready(self):
        with contextlib.suppress(OSError):
            return self.call("GET", "/v1/status?details=false") is not None
        return False

    def call(self, method, path, body=None):
        headers = {"Authorization": f"Basic {base64.b64encode(b'admin:').decode()}"}
        headers["Content-Type"] = "application/json"
        sent = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://{self.address}{path}", sent, headers, method=method
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else {}


@pytest.fixture(scope="module")
def gnocchi(new_environment):
    environment = new_environment()
    environment.install(RELEASE)
    with MariaDBServer() as database:
        database.empty()
        with GnocchiServer(environment, database) as server:
            yield server


def moment(seconds):
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()


def test_the_newest_complete_granules_are_what_a_rule_gets(gnocchi):
    definition = [{"granularity": 60, "points": 1000}]
    policy = {"name": "minute", "definition": definition, "aggregation_methods": ["mean"]}
    gnocchi.call("POST", "/v1/archive_policy", policy)
    resource = {"id": RESOURCE, "project_id": "p1"}
    resource["metrics"] = {"cpu": {"archive_policy_name": "minute"}}
    metric = gnocchi.call("POST", "/v1/resource/generic", resource)["metrics"]["cpu"]
    now = math.floor(time.time() / 60) * 60
    measures = [
        {"timestamp": moment(now + after), "value": value}
        for after, value in ((-160, 1), (-100, 6), (-90, 8), (-40, 9), (1, 99))
    ]
    of = f"/v1/resource/generic/{RESOURCE}/metric/cpu/measures"
    gnocchi.call("POST", of, measures)
    gnocchi.call("GET", f"{of}?refresh=true")  # what gnocchi-metricd does in time

    source = GnocchiSource(Place(f"http://admin:@{gnocchi.address}"), 2)

    def ask(kind, **rule):
        found = RULES[kind].model_validate({**COMMON, **rule})
        return source.values(found, now + 30.0, clock.boottime() + 60)

    with contextlib.closing(source):
        one = ask("gnocchi_resources_threshold", metric="cpu", resource_id=RESOURCE)
        some = ask("gnocchi_aggregation_by_metrics_threshold", metrics=[metric])
        search = ask(
            "gnocchi_aggregation_by_resources_threshold",
            **{"metric": "cpu", "resource_type": "generic"},
            query='{"=": {"project_id": "p1"}}',
        )
        assert one == some == search == [7.0, 9.0]
        assert ask("gnocchi_resources_threshold", metric="none", resource_id=RESOURCE) == []
        assert ask("gnocchi_resources_threshold", metric="cpu", resource_id="nobody") == []
