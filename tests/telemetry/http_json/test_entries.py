"""What an entry of an answer tells."""

import threading
from collections import Counter

import pytest

from hashring.telemetry.errors import BadResponse
from hashring.telemetry.model.resource import Resource
from hashring.telemetry.sources.web.targets import static_resource
from tests.servers.http import Answer
from tests.telemetry.http_json.definitions import LOAD, PAGED, volumes


@pytest.fixture
def measure(define, server):
    """Answer with a document what one definition's fields are asked of, and measure it."""

    def measured(document, fields="", name="m", labels=None):
        server.answer("/x", document)
        text = f"- {{name: {name}, sample_type: gauge, unit: u, {fields}}}\n"
        [pollster] = define(text)
        attributes = {"labels": labels} if labels else {}
        found = pollster.poll(Resource(server.url + "/x", "http", attributes))
        measured.pollster = pollster
        return found

    return measured


@pytest.mark.parametrize(
    ("document", "fields"),
    [
        ([{"v": 1}, {"v": 2}], ""),
        ([{"v": 1}, {"v": 2}], "response_entries_key: ignored"),
        ({"first": [{"v": 1}, {"v": 2}], "second": [{"v": 3}]}, ""),
        ({"a": 0, "b": {"c": [{"v": 1}, {"v": 2}]}}, "response_entries_key: b.c"),
        ({"a": "[]", "b": [[{"v": 1}, {"v": 2}]]}, "response_entries_key: 'b | value[0]'"),
    ],
)
def test_entries_are_found(measure, document, fields):
    found = measure(document, f"value_attribute: v, {fields}")

    assert [each.volume for each in found] == [1, 2]


@pytest.mark.parametrize(
    ("document", "fields"),
    [
        ({"v": 1}, ""),
        ({"x": {"v": 1}}, ""),
        ({"x": {"v": 2}, "v": 1}, "response_entries_key: ."),
        ({"x": {"v": 1}}, "response_entries_key: x"),
    ],
)
def test_one_entry_is_the_resource_itself(measure, document, fields):
    assert volumes(measure(document, f"value_attribute: v, {fields}")) == [(None, 1)]


def test_an_answer_without_entries_is_no_measurement(measure):
    assert measure([], "value_attribute: v") == []
    assert measure({}, "value_attribute: v") == []


def test_an_answer_without_the_entries_key_is_an_error(measure):
    with pytest.raises(BadResponse, match="m: there is no 'servers'"):
        measure({"fault": []}, "value_attribute: v, response_entries_key: servers")


def test_a_definition_that_finds_nothing_costs_its_own_meter_alone(define, server):
    server.answer("/x", {"entries": [{"load": 1}]})
    [pollster] = define(
        PAGED
        + LOAD.replace("web.load", "b")
        + "  response_entries_key: none\n"
        + "  next_sample_url_attribute: next\n"
    )

    found = pollster.poll(static_resource(server.url + "/x"))

    assert [each.meter.name for each in found] == ["web.load"]
    assert pollster.skipped == {("b", "no entries"): 1}


def test_entries_without_a_value_are_skipped_counted_and_logged_once(measure, caplog):
    bad = [{}, {"v": None}, {"v": "high"}, {"v": [1]}, {"v": "1_000"}, {"v": "nan"}, {"v": {}}]

    found = measure([{"v": 1}, *bad, {"v": 10**400}, {"v": 2}], "value_attribute: v")

    assert [each.volume for each in found] == [1, 2]
    assert measure.pollster.skipped == {("m", "no value"): 1, ("m", "unusable value"): 7}
    assert len(caplog.records) == 2
    assert [each.resource_id[-2:] for each in found] == ["#0", "#9"]  # as they stand in the answer


@pytest.mark.parametrize(
    ("value", "volume"),
    [(1, 1), (1.5, 1.5), ("17", 17), ("1e3", 1000.0), (True, 1), (False, 0), (-3, -3)],
)
def test_what_is_a_number_is_a_volume(measure, value, volume):
    [found] = measure({"v": value}, "value_attribute: v")

    assert (found.volume, type(found.volume)) == (volume, type(volume))


def test_values_are_mapped_skipped_and_otherwise_the_default(measure):
    document = [{"id": id_, "v": value} for id_, value in enumerate(["UP", "DOWN", "?", [], True])]

    found = measure(
        document,
        "value_attribute: v, value_mapping: {UP: '1', DOWN: 0.5, true: 7}, "
        "skip_sample_values: ['DOWN']",
    )
    assert volumes(found) == [("0", 1), ("2", -1), ("3", -1), ("4", 7)]
    found = measure(document[2:3], "value_attribute: v, value_mapping: {UP: 1}, default_value: 9")
    assert volumes(found) == [("2", 9)]


def test_ids_come_from_the_entry(measure):
    entry = {"id": "r1", "user_id": "u1", "project_id": "p1", "v": 1}

    [found] = measure(entry, "value_attribute: v, response_entries_key: .")

    assert (found.resource_id, found.user_id, found.project_id) == ("r1", "u1", "p1")
    [found] = measure(
        {"uuid": 7, "owner": {"user": "u$1", "project": None}, "v": 1, "id": "x"},
        "response_entries_key: ., value_attribute: v, resource_id_attribute: uuid, "
        "user_id_attribute: \"owner.user | value.split('$')[0]\", "
        "project_id_attribute: owner.project",
    )
    assert (found.resource_id, found.user_id, found.project_id) == ("7", "u", None)
    [found] = measure(
        entry, "value_attribute: v, response_entries_key: ., resource_id_attribute: ''"
    )
    assert found.resource_id is None


def test_whatever_json_can_spell_any_sink_can_hold(measure):
    [found] = measure(
        b'{"id": "\\ud800", "v": 18446744073709551616, "a": ["\\ude00", "\\ud83d\\ude00"], '
        b'"b": [NaN, -Infinity, 1e999, 1e400], "c": 9' + b"9" * 400 + b"}",
        "value_attribute: v, response_entries_key: ., metadata_fields: [a, b, c]",
    )

    assert (found.resource_id, found.volume, type(found.volume)) == ("\\ud800", 2.0**64, float)
    assert found.metadata == {"a": ["\\ude00", "😀"], "b": [None] * 4, "c": None}


def test_an_id_that_stands_twice_is_measured_once(measure):
    found = measure([{"id": "a", "v": 1}, {"id": "a", "v": 2}], "value_attribute: v")

    assert volumes(found) == [("a", 1)]
    assert measure.pollster.skipped == {("m", "repeated"): 1}


def test_metadata_comes_from_the_entry_and_the_targets_labels(measure):
    entry = {"v": 1, "name": "n", "flavor": {"ram": 2}, "tags": ["a", "b"]}
    fields = (
        "value_attribute: v, response_entries_key: ., "
        "metadata_fields: [name, flavor.ram, \"tags | ','.join(value)\", missing], "
        "metadata_mapping: {name: display_name}"
    )

    [found] = measure(entry, fields, labels={"team": "web", "name": "label"})
    [moved] = measure(entry, fields + ", preserve_mapped_metadata: false")

    mapped = {"display_name": "n", "flavor.ram": 2, "tags | ','.join(value)": "a,b"}
    assert found.metadata == {"team": "web", "name": "n", **mapped}
    assert moved.metadata == mapped


def test_one_definition_may_tell_many_meters(measure):
    document = {
        "summary": [
            {
                "user": "u1",
                "categories": [
                    {"category": "get_obj", "ops": 46},
                    {"category": "put_obj", "ops": 8},
                    {"category": "list", "ops": 0},
                ],
            },
            {"user": "u2", "categories": [{"ops": 1}]},
            {"user": "u3"},
        ]
    }

    found = measure(
        document,
        "value_attribute: '[categories].ops', resource_id_attribute: user, "
        "response_entries_key: summary, skip_sample_values: [list]",
        name="'radosgw.{category}'",
    )

    assert [(each.meter.name, each.resource_id, each.volume) for each in found] == [
        ("radosgw.get_obj", "u1", 46),
        ("radosgw.put_obj", "u1", 8),
    ]
    assert (measure.pollster.prefix, measure.pollster.meters) == ("radosgw.", ())
    assert measure.pollster.skipped == {("radosgw.{category}", "no list"): 2}


def test_many_threads_poll_many_resources_each_once(define, server):
    server.otherwise(lambda asked: Answer({"load": int(asked.path.rpartition("/")[2])}))
    [pollster] = define(LOAD)
    resources = [static_resource(f"{server.url}/{number}") for number in range(120)]
    found = []

    def poll(share):
        for resource in share:
            found.extend(pollster.poll(resource))

    threads = [threading.Thread(target=poll, args=(resources[n::6],)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(each.volume for each in found) == list(range(120))
    assert server.counts() == Counter(f"/{number}" for number in range(120))
