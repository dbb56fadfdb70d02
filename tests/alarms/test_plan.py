"""The whole plan, on a real Prometheus: hundreds of alarms through joins, ends, kills and restarts.

``-o log_cli=true`` shows the figures, which the docs report.
"""

from __future__ import annotations

import logging
import math
import time
from contextlib import ExitStack

import pytest
import sqlalchemy as sa

from hashring.alarms.database import migrations
from hashring.alarms.database.engine import Database, default_url, microseconds
from hashring.alarms.database.notifications import Notifications
from hashring.alarms.database.tables import OUTBOX
from tests.alarms.fleet import Evaluators, evaluators, told
from tests.alarms.plan import (
    ALARMS,
    INTERVAL,
    LAG,
    TTL,
    Judge,
    deliver_the_rest,
    pass_windows,
    play,
    squares,
)
from tests.alarms.waves import Waves
from tests.servers.http import HTTPServer
from tests.servers.postgresql import PostgreSQLServer
from tests.servers.process import free_port, wait_until
from tests.servers.redis import RedisServer
from tests.standstill import judged, statuses

log = logging.getLogger(__name__)

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]


def late_in(logs):
    """Return the evaluators that had no time for a window, or for an answer."""
    return sorted(
        name for name, one in statuses(logs).items() if one["missed"] or one["alarms"]["unanswered"]
    )


def options_of(folder, waves):
    path = folder / "aodh.conf"
    # A sink that a busy machine keeps from answering is not told again, with the same key.
    path.write_text(f"[DEFAULT]\nadditional_ingestion_lag = {LAG}\n[alarm]\naction_timeout = 60\n")
    found = ["--config-file", str(path), "--prometheus-url", waves.proxy.url]
    return [*found, "--interval", str(INTERVAL), "--ttl", str(TTL)]


def run_plan(kind, folder):
    with ExitStack() as stack:
        sink = stack.enter_context(HTTPServer())
        sink.answer("/in", b"")
        waves = Waves(stack, ALARMS, INTERVAL, LAG)
        options = options_of(folder, waves)
        url, restart = default_url(folder / "state"), None
        if "redis" in kind:
            url = stack.enter_context(PostgreSQLServer()).url
            redis = stack.enter_context(RedisServer(persist=True))
            options += ["--database", url, "--backend-url", redis.url]

            def restart():
                redis.stop()
                redis.start()

        (folder / "state").mkdir()
        database = Database(url)
        stack.callback(database.close)
        migrations.migrate(database)
        fleet = stack.enter_context(evaluators(folder, *options))
        fleet.write(squares(f"{sink.url}/in"))
        judge = Judge(waves, sink)
        try:
            told_of, again = play(judge, fleet, database, restart)
            log.warning(
                f"{told_of:,} changes were told; {again} requests came again, with the same key"
            )
        finally:
            log.warning(f"{kind}: {ALARMS} alarms, windows of {INTERVAL:g} s, ttl {TTL:g} s")
            for part, due, missed, twice in judge.figures:
                log.warning(f"{part}: {due:,} due, {missed:,} missed, {twice:,} asked about twice")
            report(fleet)


def report(fleet: Evaluators) -> None:
    """Say what each evaluator says of itself: it helps where something is missing."""
    for name in fleet.processes:
        found = fleet.status(name)
        alarms = found.get("alarms", {})
        words = ("evaluated", "unanswered", "repeated", "delivered", "failed", "took")
        said = ", ".join(f"{word} {alarms.get(word)}" for word in words)
        log.warning(f"{name}: missed {found.get('missed')}, {said}")


@pytest.mark.parametrize("kind", ["redis and postgresql", "sqlite on one host"])
def test_the_plan(kind, tmp_path):
    judged(lambda folder: run_plan(kind, folder), tmp_path, late_in)


def run_with_the_sink_away(folder):
    port = free_port()
    with ExitStack() as stack:
        waves = Waves(stack, ALARMS, INTERVAL, LAG)
        (folder / "state").mkdir()
        database = Database(default_url(folder / "state"))
        stack.callback(database.close)
        migrations.migrate(database)
        fleet = stack.enter_context(evaluators(folder, *options_of(folder, waves)))
        fleet.write(squares(f"http://127.0.0.1:{port}/in"))
        begin = time.time()
        for name in "abc":
            fleet.start(name)
        fleet.settle("a", "b", "c")
        pass_windows(6)
        fleet.kill("b")
        killed = math.floor(time.time() / INTERVAL)
        fleet.settle("a", "c")
        pass_windows(6)
        outbox = Notifications(database)
        waited = outbox.waiting().pending
        assert waited > ALARMS
        sink = stack.enter_context(HTTPServer(port))
        sink.answer("/in", b"")
        back = time.time()
        wait_until(lambda: outbox.waiting().pending < waited / 2, within=180)
        for name in "ac":
            fleet.stop(name)
        deliver_the_rest(fleet, outbox)
        judge = Judge(waves, sink)
        judge.told_once()
        told_of, _ = judge.told_all(database, killed)
        first = min(asked.at for asked in sink.log) - back
        last = noted_last(database, written_by=back) - back
        log.warning(
            f"the sink was away for {back - begin:.0f} s: {waited:,} waited; they were told from "
            f"{first:.0f} to {last:.0f} s after it was back. All {told_of:,} of the plan arrived "
            "once and in order"
        )
        assert len(told(sink)) == told_of


def noted_last(database, *, written_by):
    """Return when the last of what was written by a time was noted as told, in seconds."""
    wanted = sa.select(sa.func.max(OUTBOX.c.done)).where(
        OUTBOX.c.created <= microseconds(written_by)
    )
    with database.reading() as connection:
        return connection.execute(wanted).scalar() / 1e6


def test_a_sink_is_away_for_a_minute_and_an_evaluator_is_killed_meanwhile(tmp_path):
    judged(run_with_the_sink_away, tmp_path, late_in)
