"""Rules on Gnocchi: what is asked, what is made of answers; with Keystone, and a real one."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

import pytest

from hashring import clock
from hashring.alarms import options
from hashring.alarms.errors import BadAlarm, SourceAway
from hashring.alarms.model import RULES, alarm_of
from hashring.alarms.running import sources_of
from hashring.alarms.sources.asking import Asking
from hashring.alarms.sources.gnocchi import GnocchiSource, Place
from hashring.alarms.sources.keystone import Keystone
from hashring.errors import BadArgument
from tests.servers.http import Answer, HTTPServer

AT = 1_700_000_070.0  # ten seconds into a granule of a minute
COMMON = {"comparison_operator": "gt", "threshold": 5, "aggregation_method": "mean"}
RESOURCE = {**COMMON, "metric": "cpu", "resource_id": "web/1", "resource_type": "instance"}
METRICS = {**COMMON, "aggregation_method": "rate:mean", "metrics": ["m1", "m2"]}
SEARCH = {**COMMON, "metric": "cpu", "resource_type": "instance", "query": '{"=": {"host": "a"}}'}
KINDS = {
    "gnocchi_resources_threshold": RESOURCE,
    "gnocchi_aggregation_by_metrics_threshold": METRICS,
    "gnocchi_aggregation_by_resources_threshold": SEARCH,
}


def points(*values, granularity=60.0):
    return [
        [f"2023-11-14T22:{10 + number}:00+00:00", granularity, value]
        for number, value in enumerate(values)
    ]


@pytest.fixture
def gnocchi():
    with HTTPServer() as server:
        yield server


def ask(source, kind, rule):
    return source.values(RULES[kind].model_validate(rule), AT, clock.boottime() + 10)


@pytest.fixture
def source(gnocchi):
    found = GnocchiSource(Place(gnocchi.url.replace("//", "//admin:s3cret@")), 4)
    yield found
    found.close()


def test_a_resources_measures_are_asked_for_as_of_the_newest_complete_granule(source, gnocchi):
    gnocchi.otherwise(lambda asked: Answer(points(1, 2, 3)))
    rule = {**RESOURCE, "evaluation_periods": 2}
    assert ask(source, "gnocchi_resources_threshold", rule) == [2.0, 3.0]
    [asked] = gnocchi.log
    place = urlsplit(asked.path)
    assert place.path == "/v1/resource/generic/web%2F1/metric/cpu/measures"
    assert {name: value for name, [value] in parse_qs(place.query).items()} == {
        "aggregation": "mean",
        "granularity": "60",
        "start": "2023-11-14T22:11:00",
        "stop": "2023-11-14T22:14:00",
    }
    assert asked.headers["authorization"].startswith("Basic ")


@pytest.mark.parametrize("kind", list(KINDS)[1:])
def test_an_aggregate_is_asked_for_as_aodh_asks(source, gnocchi, kind):
    gnocchi.answer("/v1/aggregates", {"measures": {"aggregated": points(7)}})
    assert ask(source, kind, KINDS[kind]) == [7.0]
    [asked] = gnocchi.log
    assert parse_qs(urlsplit(asked.path).query)["needed_overlap"] == ["0"]
    body = json.loads(asked.body)
    if kind == "gnocchi_aggregation_by_metrics_threshold":
        parts = [["metric", name, "mean"] for name in ("m1", "m2")]
        assert body == {"operations": ["aggregate", "rate:mean", *parts]}
    else:
        assert body == {
            "operations": ["aggregate", "mean", ["metric", "cpu", "mean"]],
            "search": {"=": {"host": "a"}},
            "resource_type": "instance",
        }


def test_points_of_another_granularity_or_without_a_value_do_not_count(source, gnocchi):
    found = [*points(1, granularity=300.0), *points(None, 4)]
    gnocchi.otherwise(lambda asked: Answer(found))
    assert ask(source, "gnocchi_resources_threshold", RESOURCE) == [4.0]


def test_what_gnocchi_does_not_know_is_insufficient_data_and_a_failure_is_not(source, gnocchi):
    alarm = alarm_of({"name": "a", "type": "gnocchi_resources_threshold", "rule": RESOURCE})
    gnocchi.otherwise(lambda asked: Answer("no such metric", 404))
    asking = Asking({alarm.type: source}, AT, 10.0)
    found = asking.judgement(alarm.parsed())
    assert (str(found.state), found.away) == ("insufficient data", None)
    gnocchi.otherwise(lambda asked: Answer("s3cret stack trace", 500))
    found = Asking({alarm.type: source}, AT, 10.0).judgement(alarm.parsed())
    assert found.away.startswith("http://admin:***@")
    assert "answered 500" in found.away
    assert "s3cret" not in found.away


@pytest.mark.parametrize("body", [b"{", [[1, 2]], {"measures": []}, 7])
def test_a_damaged_answer_is_no_value(source, gnocchi, body):
    gnocchi.otherwise(lambda asked: Answer(body))
    with pytest.raises(SourceAway, match="its answer is damaged"):
        ask(source, "gnocchi_resources_threshold", RESOURCE)


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("gnocchi_resources_threshold", {"metrc": "x"}, r"rule\.metrc: unknown field \(did you"),
        ("gnocchi_aggregation_by_metrics_threshold", {"metrics": []}, r"rule\.metrics: "),
        ("gnocchi_aggregation_by_resources_threshold", {"query": "{"}, r"rule\.query: must be a s"),
        ("gnocchi_resources_threshold", {"granularity": 0}, r"rule\.granularity: "),
    ],
)
def test_a_wrong_rule_is_refused_with_the_fields_name(kind, change, words):
    with pytest.raises(BadAlarm, match=words):
        alarm_of({"name": "a", "type": kind, "rule": {**KINDS[kind], **change}})


def test_gnocchis_rules_can_be_parts_of_a_composite_one():
    rule = {"or": [{"type": kind, **found} for kind, found in KINDS.items()]}
    assert (
        len(list(alarm_of({"name": "a", "type": "composite", "rule": rule}).parsed().leaves())) == 3
    )


# ---- Keystone


def keystone(server, place):
    """Answer as Keystone's API v3 does, with a token for each time that it is asked."""
    given = []

    def tokens(asked):
        given.append(f"token-{len(given) + 1}")
        catalog = [
            {
                "type": "metric",
                "name": "gnocchi",
                "endpoints": [
                    {"interface": "public", "region": "R", "region_id": "R", "url": place}
                ],
            }
        ]
        token = {
            **{"catalog": catalog, "methods": ["password"], "user": {"id": "u", "name": "aodh"}},
            **{"issued_at": "2026-01-01T00:00:00.0Z", "expires_at": "2099-01-01T00:00:00.0Z"},
            **{"project": {"id": "p", "name": "service"}, "roles": []},
        }
        return Answer({"token": token}, 201, headers=(("X-Subject-Token", given[-1]),))

    server.answer_with("/v3/auth/tokens", tokens)
    version = {"id": "v3.14", "status": "stable", "links": [{"rel": "self", "href": ""}]}
    version["links"][0]["href"] = f"{server.url}/v3/"
    server.answer("/v3", {"version": version})
    server.answer("/v3/", {"version": version})
    return given


@pytest.fixture
def conf(tmp_path, gnocchi):
    path = tmp_path / "aodh.conf"
    path.write_text(
        f"[service_credentials]\nauth_type = password\nauth_url = {gnocchi.url}/v3\n"
        "username = aodh\npassword = s3cret\nproject_name = service\n"
        "user_domain_id = default\nproject_domain_id = default\nregion_name = R\n"
    )
    return path


def test_keystone_says_where_gnocchi_is_and_a_token_that_is_refused_is_asked_for_anew(
    conf, gnocchi
):
    given = keystone(gnocchi, gnocchi.url)

    def answer(asked):
        token = asked.headers["x-auth-token"]
        return Answer(points(9)) if token == "token-2" else Answer("expired", 401)

    gnocchi.otherwise(answer)
    source = GnocchiSource(Keystone([conf], []), 4)
    try:
        assert ask(source, "gnocchi_resources_threshold", RESOURCE) == [9.0]
        assert ask(source, "gnocchi_resources_threshold", RESOURCE) == [9.0]
    finally:
        source.close()
    assert given == ["token-1", "token-2"]


def test_a_keystone_that_is_away_says_nothing_of_the_values(conf, gnocchi):
    gnocchi.otherwise(lambda asked: Answer("out of order", 503))
    source = GnocchiSource(Keystone([conf], []), 4)
    with pytest.raises(SourceAway, match="Keystone: ") as raised:
        ask(source, "gnocchi_resources_threshold", RESOURCE)
    assert "s3cret" not in str(raised.value)
    source.close()


def test_wrong_credentials_are_told_at_the_start_and_cost_other_rules_nothing(
    tmp_path, database, caplog
):
    path = tmp_path / "aodh.conf"
    path.write_text("[service_credentials]\nauth_type = strange\n")
    with pytest.raises(BadArgument, match=r"\[service_credentials\]: "):
        Keystone([path], [])
    settings = options.load([path], state_dir=str(tmp_path), prometheus_url="http://p:9090")
    sources = sources_of(settings, database)
    assert sorted(sources) == ["hashring_threshold", "prometheus"]
    assert "rules on Gnocchi are not evaluated with Keystone's tokens" in caplog.text
    for source in sources.values():
        source.close()
