"""Files of targets, with Prometheus's own program as the judge of what they say."""

import contextlib
import os

import pytest

from hashring.telemetry.errors import BadTargets
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.sources.web.targets import ExpositionTargets, url_of
from tests.servers.process import wait_until
from tests.servers.prometheus import PrometheusServer

SETTINGS = Settings(backend_url="memory://", member="a", host="web1")

FILES = {
    "unquoted.yaml": b"""\
- targets: [a1:1, 7]
  labels: {rack: 12, prod: true, ver: 1.10, hex: 0x10, octal: 010, day: 2020-01-01, yes_: yes,
    binary: !!binary aGk=, tagged: !!int 12, underscore: 1_000, inf: .inf, quoted: 'null'}
""",
    "nothing.yaml": b"- targets: [a2:1, null, ~]\n  labels: {e: , n: null, q: '', t: ~}\n",
    "empty.yaml": b"",
    "block.yaml": b"- targets: [a3:1]\n  labels:\n    a: |\n      x\n    b: >-\n      y\n      z\n",
    "anchors.yaml": b"""\
- targets: [a4:1]
  labels: &l {a: 1}
- targets: [a5:1]
  labels: {<<: *l, b: 2}
""",
    "overridden.yaml": b"- targets: [a6:1]\n  labels: &l {a: 1}\n- labels: {<<: *l, a: 2}\n",
    "documents.yaml": b"- targets: [a7:1]\n---\n- targets: [a8:1]\n",
    "mark.yaml": b"\xef\xbb\xbf- targets: [a9:1]\n",
    "upper.YAML": b"- targets: [a10:1]\n",
    "short.yml": b"- targets: [a11:1]\n",
    "null_entry.yaml": b"- targets: [a12:1]\n-\n",
    "twice.yaml": b"- targets: [a13:1]\n  labels: {a: 1, a: 2}\n",
    "unknown.yaml": b"- targets: [a14:1]\n  label: {a: 1}\n",
    "case.yaml": b"- Targets: [a15:1]\n",
    "name.yaml": b"- targets: [a16:1]\n  labels: {a-b: 1}\n",
    "digits.yaml": b"- targets: [a17:1]\n  labels: {12: 1}\n",
    "text.yaml": b"- targets: a18:1\n",
    "empty_text.yaml": b"- targets: ''\n- targets: [a19:1]\n",
    "nested.yaml": b"- targets: [[a20:1]]\n",
    "label_list.yaml": b"- targets: [a21:1]\n  labels: []\n",
    "label_number.yaml": b"- targets: [a22:1]\n  labels: 12\n",
    "label_mapping.yaml": b"- targets: [a23:1]\n  labels: {a: {b: c}}\n",
    "mapping.yaml": b"targets: [a24:1]\n",
    "half.yaml": b"- targets: [a25:1\n",
    "latin.yaml": b'- targets: [a26:1]\n  labels: {a: "\xff"}\n',
    "slash.yaml": b"- targets: [a27:1/x, a28:1, '', '[::1]:9', a29]\n",
    "special.yaml": b"""\
- targets: [a30:1]
  labels: {__scheme__: https, __metrics_path__: m, __param_x: y z, job: j, instance: i,
    __address__: zz:1, __meta_q: 1, __tmp: 2}
""",
    "number.json": b'[{"targets": ["b1:1"], "labels": {"a": 1}}]',
    "boolean.json": b'[{"targets": ["b2:1", true]}]',
    "null.json": b"null",
    "null_entry.json": b'[null, {"targets": ["b3:1"]}]',
    "nulls.json": b'[{"targets": null, "labels": null}, {"targets": ["b4:1"]}]',
    "null_label.json": b'[{"targets": ["b5:1", null], "labels": {"a": null, "b": "c"}}]',
    "case.json": b'[{"Targets": ["b6:1"], "LABELS": {"a": "b"}}]',
    "unknown.json": b'[{"targets": ["b7:1"], "x": 1}]',
    "twice.json": b'[{"targets": ["b8:1"], "targets": ["b9:1"], "labels": {"a": "1", "a": "2"}}]',
    "trailing.json": b'[{"targets": ["b10:1"]}] x',
    "mark.json": b'\xef\xbb\xbf[{"targets": ["b11:1"]}]',
    "empty.json": b"",
    "name.json": b'[{"targets": ["b12:1"], "labels": {"a-b": "1"}}]',
    "latin.json": b'[{"targets": ["b13:1"], "labels": {"a": "\xff"}}]',
    "surrogate.json": b'[{"targets": ["b14:1"], "labels": {"a": "\\ud800"}}]',
    "nan.json": b'[{"targets": ["b15:1"]}, NaN]',
    "upper.JSON": b'[{"targets": ["b16:1"]}]',
    "mapping.json": b'{"targets": ["b17:1"]}',
}


def ours(discovery, pattern):
    """Return URL and labels of what a discovery finds, in Prometheus's spelling."""
    try:
        found = discovery.discover(pattern)
    except BadTargets:
        return []
    return sorted(
        (url_of(resource), dict(resource.attributes.get("labels", {}))) for resource in found
    )


def theirs(prometheus, job):
    # Prometheus writes out the port that a URL has anyway.
    found = prometheus.targets().get(job, [])
    return sorted((url.replace(":80/", "/"), labels) for url, labels in found)


def replace(path, text):
    """Write a file in one step: a moment in which it were empty would be a legal file."""
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").replace(path)


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """Return what Prometheus and we find in each file, and in files of one pattern that change."""
    folder = tmp_path_factory.mktemp("file_sd")
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    for name in "abc":
        (folder / f"set-{name}.yml").write_text(f"- targets: [{name}:1]\n  labels: {{n: 1}}\n")
    jobs = {name: f"{folder}/{name}" for name in FILES} | {"set": f"{folder}/set-*.yml"}
    discovery = ExpositionTargets(SETTINGS)
    found = {}
    with PrometheusServer.discovering(jobs) as prometheus:
        mine = {job: ours(discovery, pattern) for job, pattern in jobs.items()}

        def have_all_been_read():
            # Each file is read by itself. Where the two differ for good, the tests say how.
            by_job = prometheus.targets()
            return all(len(by_job.get(job, [])) == len(each) for job, each in mine.items())

        with contextlib.suppress(AssertionError):
            wait_until(have_all_been_read)
        for job in jobs:
            found[job] = theirs(prometheus, job), mine[job]
        replace(folder / "set-a.yml", "- targets: [a2:1, a3:1]\n  labels: {n: 2}\n")
        replace(folder / "set-b.yml", "- targets: [b2:1")
        (folder / "set-c.yml").unlink()
        wait_until(
            lambda: (
                len(theirs(prometheus, "set")) == 3
                and any("a3:1" in url for url, _ in theirs(prometheus, "set"))
            ),
            what="Prometheus's second reading",
        )
        found["changed set"] = theirs(prometheus, "set"), ours(discovery, jobs["set"])
    return found


@pytest.mark.parametrize("name", FILES)
def test_a_file_says_to_us_what_it_says_to_prometheus(judged, name):
    prometheus, we = judged[name]

    assert we == prometheus


def test_a_set_with_a_half_written_and_a_vanished_file_is_read_as_prometheus_reads_it(judged):
    prometheus, we = judged["changed set"]

    assert we == prometheus
    assert [url for url, _ in we] == [
        "http://a2:1/metrics",
        "http://a3:1/metrics",
        "http://b:1/metrics",  # the half-written file's, from before
    ]


def test_a_file_that_cannot_be_read_keeps_what_it_last_said(tmp_path, monkeypatch):
    discovery = ExpositionTargets(SETTINGS)
    path = tmp_path / "a.yml"
    path.write_text("- targets: [a:1]\n")
    before = ours(discovery, str(path))
    stat = os.stat

    def denied(name, *more, **others):
        if str(name) == str(path):
            raise PermissionError(13, "Permission denied")
        return stat(name, *more, **others)

    monkeypatch.setattr(os, "stat", denied)

    assert ours(discovery, str(path)) == before != []
