"""Ten deployment tools' files: each loads, or is refused for a reason that can be acted on."""

import logging
from pathlib import Path

import pytest

from hashring import plugins
from hashring.errors import HashringError
from hashring.telemetry.cli.check import problems, report
from hashring.telemetry.config import options
from hashring.telemetry.config.plan import make_plan
from hashring.telemetry.plugin import Publisher

FLEETS = Path(__file__).with_name("fleets")

# Of each fleet that loads: what the log names as without effect or ignored.
LOADS = {
    "charm-ceilometer-agent": [],
    "puppet-ceilometer": [
        *("ipmi here", "resource_update_interval", "resource_cache_expiry"),
        *("identity_name_discovery", "ignore_disabled_projects", "enable_notifications"),
        *("enable_prometheus_exporter", "prometheus_listen_addresses"),
        *("prometheus_tls_enable", "prometheus_tls_certfile", "prometheus_tls_keyfile"),
    ],
    "telemetry-operator": [
        *("heartbeat_socket_dir", "enable_notifications", "enable_prometheus_exporter"),
        *("prometheus_listen_addresses",),
        *("prometheus_tls_enable", "prometheus_tls_certfile", "prometheus_tls_keyfile"),
    ],
    "tripleo": ["tenant_name_discovery", "enable_notifications"],
    "crowbar": ["the field 'sinks' is ignored"] * 3,  # two sources' and the top's
}

# Of each fleet that is refused: where and why.
REFUSED = {
    "kolla-ansible": "is the address of a Pushgateway",
    "openstack-helm": "sink 'cpu_sink': transformers has 'rate_of_change': .* Remove the field",
    "devstack": "sink 'meter_sink': no publisher gnocchi:// is installed; installed: .*otlp",
    "salt-formula": "sink 'meter_sink': no publisher graphite:// is installed; installed: .*udp",
    "genestack": "sink 'meter_sink': no publisher gnocchi:// is installed; installed: .*http",
}


def checked(name, monkeypatch, tmp_path):
    """Do what ``hashring agent check`` does; return its lines and why an agent would not start."""
    monkeypatch.setattr(options, "SYSTEM_FOLDER", tmp_path)
    found = options.load(
        [FLEETS / name / "ceilometer.conf"], environment=False, state_dir=tmp_path, host="web1"
    )
    plan = make_plan(found)
    return list(report(found, plan, look=False)), problems(plan) or _unmade(found, plan)


def _unmade(found, plan):
    """Return which publishers cannot be made."""
    wrong = []
    for url in plan.targets:
        kind = plugins.load(plugins.PUBLISHERS, url.partition("://")[0], Publisher)
        try:
            kind(url, found).close()
        except HashringError as error:
            wrong.append(str(error))
    return wrong


def test_there_is_an_expectation_for_each_of_the_ten():
    assert {path.name for path in FLEETS.iterdir() if path.is_dir()} == LOADS.keys() | REFUSED
    assert len(LOADS.keys() | REFUSED.keys()) == 10


@pytest.mark.parametrize("name", LOADS)
def test_a_fleets_files_load(name, monkeypatch, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        lines, wrong = checked(name, monkeypatch, tmp_path)

    assert wrong == []
    assert any(line.startswith("group ") for line in lines)
    said = [record.getMessage() for record in caplog.records]
    missing = [part for part in LOADS[name] if not any(part in one for one in said)]
    assert missing == []
    assert len(said) == len(LOADS[name]), said


@pytest.mark.parametrize("name", REFUSED)
def test_a_fleets_files_are_refused_for_a_reason_that_can_be_acted_on(name, monkeypatch, tmp_path):
    def refuse():
        for problem in checked(name, monkeypatch, tmp_path)[1]:
            raise HashringError(problem)

    with pytest.raises(HashringError, match=REFUSED[name]) as caught:
        refuse()

    assert "secret" not in str(caught.value)
