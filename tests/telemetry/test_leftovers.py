"""Samples for sinks that nobody wants any more: seen, and let go of, by a command."""

import json
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from hashring.cli.front import hashring
from hashring.telemetry.delivery import leftovers
from hashring.telemetry.delivery.delivery import Delivery
from hashring.telemetry.delivery.spool import Spool
from hashring.telemetry.errors import BadConfig, OutputFailed
from tests.telemetry.publishing import sample, samples

GONE, KEPT = "http://me:s3cret@gone/in", "http://kept/in"
SHOWN = "http://me:***@gone/in"


@pytest.fixture
def folder(tmp_path):
    """Return a folder with the spool of an agent that has ended."""
    folder = tmp_path / "state" / "spool"
    spool = Spool(folder, max_bytes=1 << 20)
    spool.put([(one, (GONE, KEPT)) for one in samples(3)])
    spool.close()
    return folder


def run(tmp_path, *arguments):
    pipeline = {
        "sources": [{"name": "all", "meters": ["*"], "sinks": ["out"]}],
        "sinks": [{"name": "out", "publishers": [KEPT]}],
    }
    (tmp_path / "pipeline.yaml").write_text(json.dumps(pipeline))
    file = tmp_path / "ceilometer.conf"
    file.write_text(
        "[DEFAULT]\npipeline_cfg_file = pipeline.yaml\n"
        f"[hashring]\nstate_dir = {tmp_path / 'state'}\n"
    )
    whole = ["agent", "spool", *arguments, "--config-file", str(file)]
    return CliRunner().invoke(hashring, whole, standalone_mode=False)


def test_what_waits_for_a_sink_that_is_gone_is_listed_and_dropped_and_nothing_else(
    tmp_path, folder
):
    listed, dropped = run(tmp_path, "list"), run(tmp_path, "drop", SHOWN)

    assert f"{SHOWN}: 3 samples in 1 files" in listed.output
    assert "not in the configuration" in listed.output
    assert f"{SHOWN}: 3 samples dropped" in dropped.output
    assert "s3cret" not in listed.output + dropped.output
    assert [(route.url, route.samples) for route in leftovers.routes(folder)] == [(KEPT, 3)]


def test_what_waits_for_a_sink_that_is_configured_is_dropped_only_if_that_is_said(tmp_path, folder):
    assert isinstance(run(tmp_path, "drop", KEPT).exception, BadConfig)
    assert isinstance(run(tmp_path, "drop", "http://nowhere").exception, BadConfig)

    assert run(tmp_path, "drop", "--configured", KEPT).exception is None

    assert [route.url for route in leftovers.routes(folder)] == [GONE]


def test_an_agent_that_runs_lets_go_of_what_it_is_asked_to_and_of_nothing_else(folder, until):
    def away(url):
        raise OutputFailed("no answer")

    spool = Spool(folder, max_bytes=1 << 20)
    with Delivery(spool, away, adopt_every=0.05, first_pause=60.0, close_timeout=0.0) as delivery:
        delivery.put([(sample(), (GONE, KEPT))])
        adopted = {SHOWN: 4, KEPT: 4}
        until(
            lambda: {url: counts.waiting for url, counts in delivery.counts.items()} == adopted,
            "it has adopted what the other agent left",
        )
        until(lambda: sum(one.samples for one in leftovers.routes(folder)) == 8, "it has told")

        leftovers.drop(folder, GONE, timeout=90.0)

        until(lambda: delivery.counts[SHOWN].dropped == 4, "it was dropped, and is counted")
        assert delivery.counts[SHOWN].waiting == 0
        assert (delivery.counts[KEPT].waiting, delivery.counts[KEPT].dropped) == (4, 0)


def test_no_note_is_left_of_a_spool_that_was_delivered_meanwhile(tmp_path):
    # Between the look at what waits and the note of it, the last samples went, and the spool.
    removed = SimpleNamespace(waiting_by_file={tmp_path / "1-a.spool": {KEPT: 3}})

    leftovers.tell(removed)

    assert list(tmp_path.iterdir()) == []
