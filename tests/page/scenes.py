"""Groups worth looking at: what the browser's tests are shown, and the pictures in the docs.

``python -m tests.page.scenes`` takes these pictures anew.
"""

from __future__ import annotations

import dataclasses
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from wsgiref.simple_server import WSGIServer

import hashring
from hashring import clock
from hashring.alarms.status import Alarms
from hashring.alarms.status import Status as EvaluatorStatus
from hashring.observe.description import GroupDescription, MemberDescription, Ownership, Waiting
from hashring.page import Event, GroupStatus, Page, ProcessStatus, Token
from hashring.page.wsgi import Routes
from hashring.telemetry.agent.status import Status
from hashring.telemetry.polling.counts import OUTCOMES
from hashring.telemetry.publishers.serving import bind
from tests.conftest import TREE
from tests.page.browser import chromium, screenshot, show
from tests.servers.process import wait_until

TTL = 30.0  # far longer than any of these scenes
PICTURES = TREE / "docs" / "operations" / "page"


@contextmanager
def served(app: object) -> Iterator[str]:
    """Serve an application on a free port; yield the address of its page."""
    server: WSGIServer = bind("127.0.0.1", 0)
    server.set_app(app)  # type: ignore[arg-type]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/ring"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def steered_group(token: str) -> Iterator[tuple[str, hashring.Partition, hashring.Partition]]:
    """A real group of two, whose page lets whoever has the token change something."""
    url = f"memory://{uuid.uuid4().hex}"
    with ExitStack() as stack:
        a, b = (
            stack.enter_context(hashring.join(url, "pollers", name, ttl=TTL, heartbeat=2.0))
            for name in ("web1", "web2")
        )
        page = stack.enter_context(Page(a, token=Token(token)))
        address = stack.enter_context(served(page))
        wait_until(lambda: {a.state, b.state} == {"settled"} and len(a.members) == 2)
        stack.callback(lambda: [one.leave() for one in (a, b)])
        yield address, a, b


@contextmanager
def waiting_group() -> Iterator[tuple[str, hashring.Partition]]:
    """A real group in which ``web3`` waits for ``web2``, whose cycle is long."""
    url = f"memory://{uuid.uuid4().hex}"
    with ExitStack() as stack:
        a, b = (
            stack.enter_context(hashring.join(url, "pollers", name, ttl=TTL))
            for name in ("web1", "web2")
        )
        page = stack.enter_context(Page(a))
        address = stack.enter_context(served(page))
        wait_until(lambda: {a.state, b.state} == {"settled"} and len(a.members) == 2)
        stack.callback(lambda: [one.leave() for one in (a, b)])
        with b.cycle(), hashring.join(url, "pollers", "web3", ttl=TTL) as c:
            wait_until(lambda: "web2" in c.waiting_for)
            yield address, a
            c.leave()


class Told:
    """A source that says what it was told: an agent in a state that takes long to come by."""

    def __init__(self, status: ProcessStatus) -> None:
        self._status = status

    def status(self) -> ProcessStatus:
        return dataclasses.replace(self._status, written_at=clock.wall())

    def owner(self, name: str, key: str) -> Ownership:
        why = "agent-04 waits until agent-02 lets go of it"
        return Ownership(key, 40_112, "agent-04", "agent-02", None, why)


def _member(id: str, due: int, holds: int, slots: int, **changes: object) -> MemberDescription:
    found = MemberDescription(
        id=id,
        incarnation="1",
        weight=1.0,
        state="settled",
        acked="current",
        since=clock.wall() - 34,
        due=due,
        share=due / slots,
        holds=holds,
        lease_left=None,
        heartbeat_age=None,
        meta={},
        problem=None,
    )
    return dataclasses.replace(found, **changes)  # type: ignore[arg-type]


def _group(members: tuple[MemberDescription, ...], **changes: object) -> GroupDescription:
    found = GroupDescription(
        url="redis://store:6379/0",
        group="discovery:http-targets",
        read_at=clock.wall(),
        is_settled=True,
        view_id="3b1f",
        ring="",
        ttl=10.0,
        handoff="exclusive",
        slots=65_536,
        memory_age=86_400.0,
        members=members,
        unreadable={},
        waits=(),
        problems=(),
    )
    return dataclasses.replace(found, **changes)  # type: ignore[arg-type]


def _waiting_description(now: float) -> GroupDescription:
    """A group in which one waits for another, whose cycle is long."""
    why = "has not acked the current view: it is in a cycle, slow, or paused"
    return _group(
        (
            _member("agent-01", 16_640, 16_640, 65_536),
            _member("agent-02", 16_180, 21_641, 65_536, state="settling", acked="older"),
            _member("agent-03", 16_384, 16_384, 65_536),
            _member("agent-04", 16_332, 10_871, 65_536, state="settling"),
        ),
        is_settled=False,
        waits=(Waiting("agent-04", "agent-02", 5_461, ((0, 9),), now - 34, why),),
    )


EVENTS = (
    (560, "joined", "joined 3 members", False),
    (420, "left", "agent-05 lost: the lease has ended: 3 members", True),
    (419, "moved", "settled in 0.31 s: 5,461 slots gained, 0 handed over", False),
    (240, "missed", "1 window was missed", True),
    (180, "store", "the store does not answer", True),
    (176, "store", "the store answers again", False),
    (34, "came", "agent-04 joined: 4 members", False),
)
"""Seconds ago, kind, text, and whether it is a fault."""


def _polls(ok: int, seconds: float, **others: int) -> dict[str, float]:
    return {**dict.fromkeys(OUTCOMES, 0), "ok": ok, "seconds": seconds, **others}


def busy_agent() -> Routes:
    """An agent's page, on which everything that can be shown is."""
    now = clock.wall()
    group = _waiting_description(now)
    name = group.group
    own = GroupStatus(
        state="settled",
        view_id="3b1f",
        members=tuple(one.id for one in group.members),
        slots=16_640,
        due=16_640,
        member="agent-01",
        fence_in=8.4,
        windows={"on_time": 240, "late": 3, "missed": 1},
        cycles={"count": 240, "seconds": 1820.0},
        hand_overs=4,
        settling={"count": 4, "seconds": 1.1},
        description=group,
    )
    sink = {"sent": 1_204_000, "waiting": 770, "dropped": 0, "failed": 3}
    status = Status(
        member="agent-01",
        pid=4120,
        host="web1",
        state="settled",
        slots=16_640,
        resources=412,
        window=29_408_112,
        lateness=0.012,
        last_poll=now - 4,
        polls=98_211,
        samples=1_204_770,
        missed=1,
        hanging=1,
        groups={name: own},
        events=tuple(Event(now - age, name, *event) for age, *event in EVENTS),
        sources={
            name: {
                "web": _polls(96_000, 4100.0, failed=12, timed_out=2),
                "devices": _polls(2_197, 61.0),
            }
        },
        publishers={"https://sink.example/v1/metrics": sink},
        spool={"bytes": 312_000.0, "max_bytes": 268_435_456.0, "oldest_at": now - 41},
    )
    return Routes(Told(status), "no metrics here")


def evaluator() -> Routes:
    """The page of an evaluator of alarms whose sink is away."""
    now = clock.wall()
    group = _group(tuple(_member(f"alarm-{n}", 32_768, 32_768, 65_536) for n in (1, 2)))
    own = GroupStatus(
        state="settled",
        members=("alarm-1", "alarm-2"),
        slots=32_768,
        due=32_768,
        member="alarm-1",
        fence_in=8.4,
        description=group,
    )
    alarms = Alarms(
        interval=60.0,
        owned=251,
        invalid=1,
        took=1.2,
        evaluated=7_530,
        unanswered=12,
        changes=40,
        questions=7_120,
        delivered=38,
        failed=9,
        sinks_away=("https://hooks.example.org",),
        surveyed_at=now - 3,
        states={"ok": 480, "alarm": 17, "insufficient data": 3},
        overdue=2,
        waiting=5,
        waiting_since=now - 340,
        dead_letters=1,
        problems=("b2c1 to https://hooks.example.org/in: is tried again: no answer in time",),
    )
    status = EvaluatorStatus(
        member="alarm-1",
        members=own.members,
        pid=4120,
        host="web1",
        state="settled",
        slots=32_768,
        window=29_408_112,
        missed=0,
        groups={group.group: own},
        alarms=alarms,
    )
    return Routes(Told(status), "no metrics here")


def large_group(count: int = 200) -> Routes:
    """The page of a group of many members."""
    slots = 65_536
    members = tuple(
        _member(f"agent-{n:03}", slots // count, slots // count, slots) for n in range(count)
    )
    group = _group(members)
    status = ProcessStatus(
        host="web1",
        state="settled",
        groups={
            group.group: GroupStatus(
                state="settled",
                members=tuple(one.id for one in members),
                slots=slots // count,
                due=slots // count,
                member="agent-000",
                fence_in=8.4,
                settling={"count": 1, "seconds": 0.2},
                description=group,
            )
        },
    )
    return Routes(Told(status), "no metrics here")


def main() -> None:
    """Take the pictures."""
    PICTURES.mkdir(exist_ok=True)
    for dark in (False, True):
        with chromium(dark=dark) as driver, served(busy_agent()) as address:
            for size in ("desk", "telephone"):
                show(driver, size)
                driver.get(address)
                name = f"{'dark' if dark else 'light'}-{size}.png"
                (PICTURES / name).write_bytes(screenshot(driver))


if __name__ == "__main__":
    main()
