"""The dashboard and the alerts: they ask for metrics that there are, and each fault has its own."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest
import yaml

from hashring.metrics import METRICS
from hashring.telemetry.agent.metrics import AGENT_METRICS
from tests.conftest import TREE

FOLDER = TREE / "docs" / "operations"
DASHBOARD = FOLDER / "grafana" / "hashring.json"
RULES = FOLDER / "prometheus" / "hashring.rules.yml"
PAGE = FOLDER / "alerts.md"


def known():
    """The names of all series, as Prometheus has them, with their labels."""
    found = {}
    for metric in METRICS:
        found[metric.name] = metric.kind, {"group", *([metric.label] if metric.label else [])}
    for metric in AGENT_METRICS:
        found[metric.name] = metric.kind, {*metric.labels}
    return {
        name + ending: labels | extra
        for name, (kind, labels) in found.items()
        for ending, extra in {
            "gauge": [("", set())],
            "counter": [("_total", set())],
            "histogram": [("_bucket", {"le"}), ("_sum", set()), ("_count", set())],
        }[kind]
    }


def alerts():
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def queries():
    """Each query of the dashboard and of the rules."""
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield f"panel {panel['title']}", target["expr"]
    for name, rule in alerts().items():
        yield name, rule["expr"]


@pytest.mark.parametrize(("where", "query"), [*queries()])
def test_a_query_asks_for_what_there_is(where, query):
    series = known()
    names = re.findall(r"\bhashring_\w+", query)

    assert names
    assert [name for name in names if name not in series] == []
    for name, selector in re.findall(r"\b(hashring_\w+)\{([^}]*)\}", query):
        asked = set(re.findall(r"(\w+)\s*[=!]", selector))
        assert asked <= series[name] | {"instance", "job"}, name


def test_no_metric_is_left_off_the_dashboard_but_those_that_say_the_same_as_another():
    shown = set(re.findall(r"\bhashring_\w+", DASHBOARD.read_text()))
    assert known().keys() - shown - {name for name in known() if name.endswith(("_sum",))} <= {
        *("hashring_slots_due_total", "hashring_ownership_ratio", "hashring_agent_info"),
        *("hashring_waiting_for_members", "hashring_waiting_for_slots"),
        *("hashring_unreadable_records", "hashring_store_memory_age_seconds"),
        *("hashring_samples_waiting", "hashring_clock_steps_total"),
        *("hashring_settle_seconds_count", "hashring_cycle_seconds_count"),
        "hashring_poll_seconds_count",
    }


def test_panels_have_ids_of_their_own_and_do_not_overlap():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


@pytest.mark.parametrize(
    "command", [("check", "rules", "hashring.rules.yml"), ("test", "rules", "hashring.test.yml")]
)
def test_promtool_is_content(command):
    promtool = shutil.which("promtool")
    assert promtool is not None, "tests/servers/install.sh installs prometheus"

    done = subprocess.run(
        [promtool, *command],
        cwd=RULES.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_tested_and_explained():
    tested = (RULES.parent / "hashring.test.yml").read_text()
    page = PAGE.read_text("utf-8")
    for name in alerts():
        assert f'alertname="{name}"' in tested, name
        assert f"| `{name}` |" in page, name
