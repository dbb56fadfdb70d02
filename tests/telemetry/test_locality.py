"""Whose a resource is whose address is another one's on each host."""

import json

import pytest
import yaml

from hashring.telemetry.config.plan import Plugins, make_plan
from hashring.telemetry.sources.web.locality import is_own
from hashring.telemetry.sources.web.targets import static_resource, url_of
from tests.servers.http import HTTPServer
from tests.servers.process import wait_until
from tests.servers.redis import RedisServer
from tests.telemetry.fleet import fleet
from tests.telemetry.plant import settings

DEFINITION = """\
- name: node.load
  sample_type: gauge
  unit: "1"
  url_path: {url}
  value_attribute: load
  namespaces: [central, compute]
"""


@pytest.fixture
def planned(tmp_path):
    """Return the groups that agents of two hosts join, by name, with what they find."""

    def plan(source, definition="", hosts=("web1", "web2")):
        polling = tmp_path / "polling.yaml"
        polling.write_text(json.dumps({"sources": [{"name": "s", "interval": 60} | source]}))
        folder = tmp_path / "pollsters.d"
        folder.mkdir(exist_ok=True)
        (folder / "pollster.yaml").write_text(definition)
        found = []
        for host in hosts:
            given = settings(group=None, polling_file=polling, definition_dirs=(folder,), host=host)
            made = make_plan(given, Plugins.installed(given))
            found.append({group.name: list(group.finders[0].discover()) for group in made.groups})
        return found

    return plan


@pytest.mark.parametrize(
    "text",
    [
        *("http://127.0.0.1:80/", "http://127.8.9.1/", "http://127.1/", "http://0x7f.1/"),
        *("https://localhost./x", "http://a.localhost/", "http://LOCALHOST/", "http://0.0.0.0:1/"),
        *("http://[::1]:9/", "http://[::ffff:127.0.0.1]/", "http://[fe80::1%25eth0]/"),
        *("prometheus+http://127.0.0.1:9100", "http://u:p@127.0.0.1/", "http://169.254.169.254/"),
        *("snmp://127.0.0.1", "127.0.0.1:161", "localhost"),
        *(
            "http://LocalHost",
            "http://a.localhost.:80/",
            "http://web1@127.0.0.1/",
            "http://web1:80@127.1/",
        ),
    ],
)
def test_a_loopback_or_link_local_address_is_each_hosts_own(text):
    assert is_own(static_resource(text))


@pytest.mark.parametrize(
    "text",
    [
        *("http://10.0.0.1/", "http://web1/", "http://localhost.example/", "http://[2001:db8::1]/"),
        *("http://127.0.0.1.example/", "http://web1/127.0.0.1", "switch1", "snmp://7"),
        *(
            "http://u:127.0.0.1@web1/",
            "http://web1:80",
            "http://localhost@web1/",
            "http://web1#@127.1",
        ),
        *("http://web1?a@127.0.0.1", "prometheus+http://web1.localhost.example:80/"),
    ],
)
def test_any_other_address_is_shared(text):
    assert not is_own(static_resource(text))


def test_static_resources_are_split_into_shared_ones_and_each_hosts_own(planned):
    web1, web2 = planned(
        {
            "meters": ["prometheus.*"],
            "resources": ["prometheus+http://127.0.0.1:9100", "prometheus+http://db:9100"],
        }
    )

    [shared] = web1.keys() & web2.keys()
    assert [one.id for one in web1[shared]] == ["prometheus+http://db:9100"]
    for host, groups in (("web1", web1), ("web2", web2)):
        [own] = groups.keys() - {shared}
        assert own.endswith(f"#local@{host}")
        [resource] = groups[own]
        assert resource.id == f"{host}:prometheus+http://127.0.0.1:9100"
        assert url_of(resource) == "http://127.0.0.1:9100/metrics"


def test_a_dynamic_pollster_on_loopback_has_a_group_of_each_host_and_no_other(planned):
    web1, web2 = planned(
        {"meters": ["node.*"]}, DEFINITION.format(url="http://127.0.0.1:8080/load")
    )

    assert {name: [one.id for one in found] for name, found in web1.items()} == {
        "discovery:http-definitions#local@web1": ["web1:http://127.0.0.1:8080/load"]
    }
    assert list(web2) == ["discovery:http-definitions#local@web2"]


@pytest.mark.parametrize(
    ("local", "names"),
    [
        (None, ["discovery:http-definitions"]),
        (True, ["discovery:http-definitions#local@web1"]),
        (False, ["discovery:http-definitions"]),
    ],
)
def test_a_source_may_say_whose_its_resources_are(planned, local, names):
    source = {"meters": ["node.*"]} | ({} if local is None else {"local": local})

    [groups] = planned(source, DEFINITION.format(url="http://node/load"), hosts=["web1"])

    assert list(groups) == names


def test_a_loopback_address_is_shared_where_the_source_says_so(planned):
    web1, web2 = planned(
        {"meters": ["node.*"], "local": False}, DEFINITION.format(url="http://127.0.0.1/load")
    )

    assert list(web1) == list(web2) == ["discovery:http-definitions"]
    assert [one.id for one in web1["discovery:http-definitions"]] == ["http://127.0.0.1/load"]


def test_a_file_of_targets_is_split_and_its_first_loopback_target_is_named(
    planned, tmp_path, caplog
):
    file = tmp_path / "targets.json"
    file.write_text(json.dumps([{"targets": ["db:1"]}]))
    source = {"meters": ["prometheus.*"], "discovery": [f"prometheus-targets://{file}"]}
    polling = tmp_path / "polling.yaml"
    polling.write_text(json.dumps({"sources": [{"name": "s", "interval": 60} | source]}))
    given = settings(group=None, polling_file=polling, host="web1")
    [group] = make_plan(given, Plugins.installed(given)).groups
    file.write_text(json.dumps([{"targets": ["db:1", "127.0.0.1:1"]}]))

    shared = group.finders[0].discover()

    assert [url_of(one) for one in shared] == ["http://db:1/metrics"]
    assert group.finders[0].discover() is shared
    assert "now finds a resource at an address that is each host's own" in caplog.text
    assert "web1:prometheus+http://127.0.0.1:1/metrics" in caplog.text
    [groups] = planned(source, hosts=["web1"])
    assert [[url_of(one) for one in found] for found in groups.values()] == [
        ["http://db:1/metrics"],
        ["http://127.0.0.1:1/metrics"],
    ]


def test_compute_agents_of_two_hosts_each_poll_their_own_loopback(tmp_path):
    sources = [{"name": "s", "interval": 1, "meters": ["node.*"]}]
    with RedisServer() as store, HTTPServer() as server:
        server.answer("/load", {"load": 1})
        url = f"{server.url}/load"
        backend = f"redis://{store.address}?ttl=4"
        definition = yaml.safe_load(DEFINITION.format(url=url))
        with fleet(tmp_path, backend, sources, definitions=definition) as agents:
            for host in ("web1", "web2"):
                options = {"host": host, "pipeline_cfg_file": tmp_path / "pipeline.yaml"}
                sections = {
                    "DEFAULT": options,
                    "hashring": {"state_dir": tmp_path / f"state-{host}"},
                }
                config = agents.write_config(backend, sections, f"{host}.conf")
                agents.start("compute", host, config=config)
            wait_until(
                lambda: (
                    {f"web1:{url}", f"web2:{url}"}
                    <= {sample["resource_id"] for sample in agents.samples()}
                ),
                what="a sample of each host's own address",
            )
