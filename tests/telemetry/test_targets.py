import json
import os
import re

import pytest

from hashring.telemetry.errors import BadTargets
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.sources.web import targets
from hashring.telemetry.sources.web.targets import (
    ExpositionTargets,
    HTTPTargets,
    masked,
    static_resource,
    url_of,
)

SETTINGS = Settings(backend_url="memory://", member="a", host="web1")

YAML = """\
# the web servers
- targets: ["http://web1/status", "http://web2/status"]
  labels:
    team: web

- targets:
    - https://api:s3cret@db1/v1?limit=5
"""


@pytest.fixture
def http():
    return HTTPTargets(SETTINGS)


@pytest.fixture
def exposition():
    return ExpositionTargets(SETTINGS)


def write(path, content, age=100.0):
    """Write a file that was, as far as its time tells, written some time ago."""
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    now = path.stat().st_mtime
    os.utime(path, (now - age, now - age))
    return str(path)


@pytest.mark.parametrize(
    ("text", "kind", "id_", "url"),
    [
        ("http://web1/", "http", "http://web1/", "http://web1/"),
        ("HTTPS://web1/a?b=c", "http", "HTTPS://web1/a?b=c", "HTTPS://web1/a?b=c"),
        ("http://u:p@web1/", "http", "http://u:***@web1/", "http://u:p@web1/"),
        (
            "prometheus+http://web1:9100",
            "exposition",
            "prometheus+http://web1:9100",
            "http://web1:9100/metrics",
        ),
        (
            "prometheus+https://u:p@web1/m",
            "exposition",
            "prometheus+https://u:***@web1/m",
            "https://u:p@web1/m",
        ),
        ("snmp://u:p@switch1", "snmp", "snmp://u:***@switch1", "snmp://u:p@switch1"),
        ("switch1", "static", "switch1", "switch1"),
    ],
)
def test_a_static_resource_is_of_the_kind_of_its_scheme(text, kind, id_, url):
    resource = static_resource(text)

    assert (resource.id, resource.kind, url_of(resource)) == (id_, kind, url)


@pytest.mark.parametrize(
    "text",
    [
        *("", None, 7, "a b", "a\n", "\ud800", "http://", "http:///path", "http://web1:port/"),
        *("http://web1:0/", "http://[::1/", "prometheus+http://", "http://web1:99999/"),
    ],
)
def test_a_static_resource_that_is_no_address_is_refused(text):
    with pytest.raises(BadTargets, match=r"resource .* is not usable"):
        static_resource(text)


def test_an_error_shows_no_secret():
    with pytest.raises(BadTargets) as caught:
        static_resource("http://user:s3cret@web1:port/?token=t0ken")

    assert "s3cret" not in str(caught.value)
    assert "t0ken" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://web1/a?keyword=a&design=b&monkey=c", "http://web1/a?keyword=a&design=b&monkey=c"),
        ("http://web1/?api_key=a&x=1", "http://web1/?api_key=***&x=1"),
        ("http://web1/?X-Amz-Signature=a", "http://web1/?X-Amz-Signature=***"),
        ("http://t0ken@web1/", "http://***@web1/"),
        ("http://web1/users/@me", "http://web1/users/@me"),
        ("http://u:p@ss@web1/", "http://u:***@web1/"),
    ],
)
def test_secrets_and_nothing_else_are_masked(url, shown):
    assert masked(url) == shown


def test_targets_come_from_json_and_yaml_alike(http, tmp_path):
    yaml = write(tmp_path / "targets.yaml", YAML)
    as_json = [
        {"targets": ["http://web1/status", "http://web2/status"], "labels": {"team": "web"}},
        {"targets": ["https://api:s3cret@db1/v1?limit=5"]},
    ]

    found = http.discover(yaml)

    assert [resource.id for resource in found] == [
        "http://web1/status",
        "http://web2/status",
        "https://api:***@db1/v1?limit=5",
    ]
    assert {resource.kind for resource in found} == {"http"}
    assert [resource.attributes.get("labels") for resource in found[1:]] == [{"team": "web"}, None]
    assert url_of(found[2]) == "https://api:s3cret@db1/v1?limit=5"
    assert http.discover(write(tmp_path / "targets.json", as_json)) == found


def test_exposition_targets_are_what_prometheus_would_ask(exposition, tmp_path):
    path = write(
        tmp_path / "targets.json",
        [
            {"targets": ["web1:9100", "[::1]:9100"], "labels": {"job": "node"}},
            {
                "targets": ["snmp1"],
                "labels": {
                    "__scheme__": "https",
                    "__metrics_path__": "/snmp",
                    "__param_target": "switch 1",
                    "__param_auth": "v2",
                    "__meta_x": "y",
                },
            },
            {"targets": ["https://web2/custom", "http://web3"]},
        ],
    )

    found = exposition.discover(path)

    assert [url_of(resource) for resource in found] == [
        "http://web1:9100/metrics",
        "http://[::1]:9100/metrics",
        "https://snmp1/snmp?auth=v2&target=switch+1",
        "https://web2/custom",
        "http://web3/metrics",
    ]
    assert found[0].id == "prometheus+http://web1:9100/metrics"
    assert found[0].attributes["labels"] == {"job": "node"}
    assert "labels" not in found[2].attributes
    assert found[4] == static_resource("prometheus+http://web3")


def test_a_target_that_stands_twice_counts_once(http, tmp_path):
    write(tmp_path / "a.json", [{"targets": ["http://b/", "http://a/"], "labels": {"of": "a"}}])
    write(tmp_path / "b.json", [{"targets": ["http://a/", "http://c/"], "labels": {"of": "b"}}])

    found = http.discover(f"{tmp_path}/*.json")

    assert [(resource.id, resource.attributes["labels"]["of"]) for resource in found] == [
        ("http://b/", "a"),
        ("http://a/", "a"),
        ("http://c/", "b"),
    ]


def test_of_targets_that_differ_in_a_secret_alone_the_first_counts(http, tmp_path, caplog):
    path = write(tmp_path / "a.json", [{"targets": ["http://a/?token=x", "http://a/?token=y"]}])

    found = http.discover(path)

    assert [url_of(resource) for resource in found] == ["http://a/?token=x"]
    assert "token=***', and the second is left out; give secrets in headers" in caplog.text
    assert "token=y" not in caplog.text


def test_unchanged_files_are_not_read_again_and_give_the_very_same_object(http, tmp_path):
    path = write(tmp_path / "a.json", [{"targets": ["http://a/"]}])
    first = http.discover(path)
    before = (tmp_path / "a.json").stat()
    # The same size, time and inode, but other bytes: only who reads it again would see them.
    (tmp_path / "a.json").write_text(json.dumps([{"targets": ["http://b/"]}]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert http.discover(path) is first


def test_a_file_that_was_only_touched_gives_the_very_same_object(http, tmp_path):
    path = write(tmp_path / "a.json", [{"targets": ["http://a/"]}])
    first = http.discover(path)
    os.utime(path, (1, 1))

    assert http.discover(path) is first


def test_a_file_that_changes_twice_within_a_clock_tick_is_seen(http, tmp_path, monkeypatch):
    monkeypatch.setattr(targets, "_RECENT", 3600.0)  # the machine may stand still meanwhile
    file = tmp_path / "a.json"
    file.write_text(json.dumps([{"targets": ["http://a/"]}]))
    before = file.stat()
    assert [resource.id for resource in http.discover(str(file))] == ["http://a/"]
    file.write_text(json.dumps([{"targets": ["http://b/"]}]))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert [resource.id for resource in http.discover(str(file))] == ["http://b/"]


def test_a_changed_a_new_and_a_removed_file_are_seen(http, tmp_path):
    def ids():
        return [resource.id for resource in http.discover(f"{tmp_path}/*.json")]

    assert ids() == []
    write(tmp_path / "a.json", [{"targets": ["http://a/"]}])
    assert ids() == ["http://a/"]
    write(tmp_path / "b.json", [{"targets": ["http://b/"]}])
    assert ids() == ["http://a/", "http://b/"]
    write(tmp_path / "a.json", [{"targets": ["http://a2/"]}], age=50)
    assert ids() == ["http://a2/", "http://b/"]
    (tmp_path / "a.json").unlink()
    assert ids() == ["http://b/"]


def test_each_parameter_has_its_own_targets(http, tmp_path):
    one = write(tmp_path / "a.json", [{"targets": ["http://a/"]}])
    two = write(tmp_path / "b.json", [{"targets": ["http://b/"]}])
    first = http.discover(one)

    assert [resource.id for resource in http.discover(two)] == ["http://b/"]
    assert http.discover(one) is first


GOOD = '[\n {"targets": ["http://a/"]},\n {"targets": ["http://b/"]},\n'


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", GOOD, "line 4: it is not JSON .* half written"),
        ("a.json", '{"targets": []}', "line 1: it must be a list of entries"),
        ("a.json", GOOD + " 7]", "line 4, entry 3: an entry must be a mapping"),
        ("a.json", GOOD + ' {"target": []}]', "line 4, entry 3: the fields must be .* 'target'"),
        ("a.json", GOOD + ' {"targets": "x"}]', "line 4, entry 3: targets must be a list"),
        ("a.json", GOOD + ' {"targets": [7]}]', "entry 3: a target must be .*, not the number 7"),
        ("a.json", GOOD + ' {"targets": [], "labels": []}]', "entry 3: labels must be a mapping"),
        ("a.json", GOOD + " null]", "line 4, entry 3: an entry must be a mapping .* not nothing"),
        ("a.json", GOOD + " NaN]", "line 1: it is not JSON: NaN"),
        ("a.JSON", GOOD, "line 4: it is not JSON"),
        ("a.json", GOOD + ' {"targets": [], "labels": [1]}]', "entry 3: labels must be a mapping"),
        ("a.json", GOOD + ' {"targets": [], "labels": {"a": 1}}]', "the label 'a' must be a text"),
        ("a.json", "\n\n\udcff", "line 3: it is not JSON"),
        ("a.yaml", "\n\n\udcff", "line 3: it is not UTF-8"),
        ("a.json", "[" * 100_000, "line 1: it is nested too deeply"),
        ("a.yaml", "- targets: [http://a/\n", "line 2: it is not YAML"),
        ("a.yaml", "- targets: [http://a/]\n- targets: x\n", "line 2, entry 2: targets must be"),
        ("a.yml", "- targets: http://a:b@x/\n", "entry 1: targets must be a list, not a text$"),
        ("a.yaml", "!!python/object/apply:os.system [ls]\n", "it is not YAML"),
        ("a.yaml", "{}", "must be a list of entries"),
    ],
)
def test_a_wrong_file_is_an_error_that_names_file_line_and_entry(
    http, tmp_path, name, content, said
):
    path = tmp_path / name
    path.write_bytes(content.encode(errors="surrogateescape"))

    with pytest.raises(BadTargets, match=f"{path}, .*{said}|{path}, {said}"):
        http.discover(str(path))


def test_a_wrong_file_is_an_error_each_time_until_it_is_mended(http, tmp_path):
    path = write(tmp_path / "a.json", "[")
    for _ in range(2):
        with pytest.raises(BadTargets, match="not JSON"):
            http.discover(path)
    write(tmp_path / "a.json", [{"targets": ["http://a/"]}])

    assert [resource.id for resource in http.discover(path)] == ["http://a/"]


@pytest.mark.parametrize("parameter", ["", "targets.json", "./targets.json"])
def test_a_path_must_be_absolute(http, parameter):
    with pytest.raises(BadTargets, match="needs an absolute path, http-targets:///"):
        http.discover(parameter)


def test_a_missing_file_is_an_error_and_a_pattern_may_match_none(http, tmp_path):
    with pytest.raises(BadTargets, match="No such file"):
        http.discover(f"{tmp_path}/none.json")

    assert http.discover(f"{tmp_path}/*.json") == ()


def test_a_file_that_is_no_file_or_too_large_is_an_error(http, tmp_path, monkeypatch):
    with pytest.raises(BadTargets, match="Is a directory"):
        http.discover(str(tmp_path))
    monkeypatch.setattr(targets, "_MAX_BYTES", 3)
    with pytest.raises(BadTargets, match="at most 3"):
        http.discover(write(tmp_path / "a.json", [{"targets": []}]))


@pytest.mark.parametrize(
    ("kind", "bad", "said"),
    [
        (ExpositionTargets, "web1/metrics", "'web1/metrics' is not usable, .* write host:port"),
        (HTTPTargets, "ftp://x", "'ftp://x' is not usable, .* begins with http"),
        (HTTPTargets, "http://u:s3cret@x:y/", r"'http://\*\*\* \(20 characters\)' is not usable"),
        (HTTPTargets, "", "'' is not usable"),
    ],
)
def test_a_target_that_cannot_be_asked_costs_itself_alone(tmp_path, caplog, kind, bad, said):
    path = write(tmp_path / "a.json", [{"targets": ["http://a/m", bad, "http://b/m"]}])

    found = kind(SETTINGS).discover(path)

    assert [url_of(resource) for resource in found] == ["http://a/m", "http://b/m"]
    assert re.search(f"{path}, line 1, entry 1: the target {said}", caplog.text)
    assert "s3cret" not in caplog.text


def test_one_half_written_file_of_a_pattern_costs_itself_alone(http, tmp_path, caplog):
    for name in "abc":
        write(tmp_path / f"{name}.json", [{"targets": [f"http://{name}/"]}])
    write(tmp_path / "b.json", '[{"targets": ["http://b/')

    found = http.discover(f"{tmp_path}/*.json")

    assert [resource.id for resource in found] == ["http://a/", "http://c/"]
    assert f"{tmp_path}/b.json, line 1: it is not JSON" in caplog.text
    assert "it has no targets until it is mended" in caplog.text


@pytest.mark.parametrize("damage", ["half written", "a folder"])
def test_a_file_that_turns_bad_goes_on_saying_what_it_last_said(http, tmp_path, caplog, damage):
    def ids():
        return [resource.id for resource in http.discover(f"{tmp_path}/*.json")]

    write(tmp_path / "a.json", [{"targets": ["http://a/"]}])
    bad = tmp_path / "b.json"
    write(bad, [{"targets": ["http://b/"]}])
    assert ids() == ["http://a/", "http://b/"]
    if damage == "half written":
        write(bad, '[{"targets": ["http://b2/"', age=50)
    else:
        bad.unlink()
        bad.mkdir()
    write(tmp_path / "a.json", [{"targets": ["http://a2/"]}], age=50)

    assert [ids(), ids()] == [["http://a2/", "http://b/"]] * 2
    assert caplog.text.count("the 1 targets that it last had are polled on") == 1  # said once
    if damage == "a folder":
        bad.rmdir()
    write(bad, [{"targets": ["http://b3/"]}], age=20)
    assert ids() == ["http://a2/", "http://b3/"]


def test_a_single_file_that_is_gone_takes_its_targets_with_it(http, tmp_path, caplog):
    path = write(tmp_path / "a.json", [{"targets": ["http://a/"]}])
    assert len(http.discover(path)) == 1
    (tmp_path / "a.json").unlink()

    assert [http.discover(path), http.discover(path)] == [(), ()]
    assert f"the targets file {path} is gone, and its targets with it" in caplog.text
    write(tmp_path / "a.json", [{"targets": ["http://b/"]}])
    assert [resource.id for resource in http.discover(path)] == ["http://b/"]


def test_labels_of_other_samples_than_prometheuss_may_have_any_names(http, exposition, tmp_path):
    path = write(tmp_path / "a.yaml", "- targets: [http://a/m]\n  labels: {my-rack: 7}\n")

    assert http.discover(path)[0].attributes["labels"] == {"my-rack": "7"}
    with pytest.raises(BadTargets, match=r"the name of a label .* 'my-rack'"):
        exposition.discover(path)


@pytest.mark.parametrize("name", ["many.json", "many.yaml"])
def test_very_many_targets_share_what_they_have_in_common(http, tmp_path, name):
    many = [f"http://host{number}.example/status" for number in range(20_000)]
    path = write(tmp_path / name, [{"targets": many, "labels": {"team": "web"}}])

    found = http.discover(path)

    assert [resource.id for resource in found] == many
    assert len({id(resource.attributes) for resource in found}) == 1
    assert http.discover(path) is found
