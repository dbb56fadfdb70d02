"""What stops an agent is set aside before it stops the next one: the rules, and a real fleet."""

import math
import signal
import threading
from pathlib import Path

import pytest

from hashring.telemetry.polling.flights import Flight, Flights, read_flights
from hashring.telemetry.polling.judgement import Usage, holders, memory_takers
from hashring.telemetry.polling.set_aside import Case, SetAside, from_meta, to_meta
from tests.servers.redis import RedisServer
from tests.standstill import judged
from tests.telemetry.conftest import until
from tests.telemetry.fleet import Windows, excusable, fleet, late_in

pytestmark = pytest.mark.slow

IDLE = Usage(0.0, 0)


# ---- the rule --------------------------------------------------------------------------------


def test_a_case_counts_once_whoever_tells_it():
    aside = SetAside(60.0)
    assert aside.take([Case("web1", "a-1")], 0.0)
    assert not aside.take([Case("web1", "a-1", 5, 1000.0)], 10.0)
    assert aside.is_due("web1", 60.0)
    assert not aside.take([Case("web1", "a-1")], 61.0)
    assert aside.is_due("web1", 61.0)


def test_a_resource_that_stops_an_agent_again_waits_twice_as_long_and_not_for_ever():
    aside = SetAside(10.0)
    now, waits = 0.0, []
    for number in range(9):
        aside.take([Case("web1", f"a-{number}")], now)
        [case] = aside.cases(now)
        waits.append(case.seconds)
        now += case.seconds
    assert waits == [10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 640.0, 640.0]


def test_only_a_poll_that_began_after_the_pause_ends_a_case():
    aside = SetAside(10.0)
    aside.take([Case("web1", "a-1")], 5.0)
    assert not aside.worked("web1", began=4.0)  # the very poll that stopped the agent came back
    assert not aside.is_due("web1", 6.0)
    assert aside.worked("web1", began=15.0)
    aside.take([Case("web1", "a-2")], 20.0)
    assert aside.times(20.0) == {"web1": 1}


def test_cases_of_the_same_time_count_as_one():
    aside = SetAside(10.0)
    aside.take([Case("web1", "a-1"), Case("web1", "b-1")], 0.0)
    assert not aside.take([Case("web1", "c-1")], 9.0)
    assert aside.times(9.0) == {"web1": 1}
    assert aside.is_due("web1", 10.0)


def test_what_stopped_nobody_for_long_is_forgotten():
    aside = SetAside(10.0)
    aside.take([Case("web1", "a-1")], 0.0)
    aside.take([Case("web2", "a-2")], 20.0)
    aside.take([Case("web1", "a-3")], 21.0)
    assert aside.times(21.0) == {"web1": 1, "web2": 1}


def test_an_agent_that_comes_later_learns_of_a_case_from_one_that_knows_it():
    first, second = SetAside(10.0), SetAside(10.0)
    first.take([Case("web1", "a-1")], 0.0)
    first.take([Case("web1", "a-2")], 15.0)
    told = to_meta(first.cases(20.0))
    second.take(from_meta(told), 1000.0)
    assert second.cases(1000.0) == [Case("web1", "a-2", 2, 15.0)]


@pytest.mark.parametrize(
    "told",
    [
        None,
        {"web1": 1},
        ["web1"],
        [["web1", "a-1", 1]],
        [[["web1"], "a-1", 1, 0]],
        [["web1", 7, 1, 0]],
        [["web1", "a-1", True, 0]],
        [["web1", "a-1", 0, 0]],
        [["web1", "a-1", 10**400, 0]],
        [["web1", "a-1", 1, 10**400]],
        [["web1", "a-1", 1, -1]],
        [["web1", "a-1", 1, math.nan]],
        [["web1", "a-1", 1, math.inf]],
        [["w" * 5000, "a-1", 1, 0]],
    ],
)
def test_what_another_member_tells_is_checked(told):
    assert from_meta({"set_aside": told}) == []


def test_what_members_tell_is_bounded():
    many = [[f"web{n}", f"a-{n}", 1, 0] for n in range(1000)]
    assert len(from_meta({"set_aside": many})) == 32
    assert len(to_meta(Case("€" * 2000, f"a-{n}") for n in range(1000))["set_aside"]) < 32
    aside = SetAside(10.0)
    aside.take([Case(f"web{n}", f"a-{n}") for n in range(10_000)], 0.0)
    assert len(aside.cases(0.0)) == 256


# ---- the judgement ---------------------------------------------------------------------------


def flights(count):
    return [Flight("g", f"web{number}", 1.0, number) for number in range(count)]


def test_a_loop_in_c_is_told_from_polls_that_wait_for_the_interpreter_or_for_an_answer():
    one, two, three = flights(3)
    after = {0: Usage(0.9, 3), 1: Usage(0.01, 180), 2: Usage(0.0, 0)}
    assert holders([one, two, three], dict.fromkeys(range(3), IDLE), after, 1.0) == [one]


def test_a_call_in_c_that_sleeps_is_told_from_polls_that_wait_for_the_interpreter():
    one, two = flights(2)
    assert holders([one, two], {0: IDLE, 1: IDLE}, {0: IDLE, 1: Usage(0.0, 150)}, 1.0) == [one]


def test_what_nothing_tells_apart_is_not_set_aside():
    found = flights(16)
    same = dict.fromkeys(range(16), IDLE)
    assert holders(found, same, same, 1.0) == []
    assert holders(found, {}, {}, 1.0) == []
    assert memory_takers(dict.fromkeys(found, 1 << 40)) == []


def test_an_agent_that_was_killed_while_it_polled_as_always_accuses_nobody():
    assert memory_takers(dict.fromkeys(flights(3), 20 << 20)) == []


# ---- the table -------------------------------------------------------------------------------


def test_polls_in_hand_can_be_read_and_ended_from_several_threads():
    table = Flights()
    both, over = threading.Barrier(3), threading.Barrier(3)

    def poll(name):
        place = table.begin("g", name)
        both.wait(60)
        over.wait(60)
        table.end(place)

    threads = [threading.Thread(target=poll, args=(name,)) for name in ("web1", "é")]
    for thread in threads:
        thread.start()
    both.wait(60)
    _, found = read_flights(table.memory)
    assert {(one.id, one.thread) for one in found} == {
        (name, thread.native_id) for name, thread in zip(("web1", "é"), threads, strict=True)
    }
    over.wait(60)
    for thread in threads:
        thread.join()
    assert read_flights(table.memory)[1] == []
    table.close()


def test_a_poll_that_has_no_place_in_the_table_is_made_all_the_same():
    table = Flights()
    places = [table.begin("g", f"web{number}") for number in range(300)]
    assert places.count(0) == 44
    assert table.begin("g" * 600, "w" * 600) == 0
    for place in places:
        table.end(place)
    assert read_flights(table.memory)[1] == []
    assert table.begin("g", "web1") != 0
    table.close()


# ---- a fleet ---------------------------------------------------------------------------------

INTERVAL = 4.0
TTL = 6.0
HOLD = 4 * TTL

PLUGIN = f'''
"""A pollster whose poll of one resource does to its agent what a file names."""
import ctypes, os, time
from pathlib import Path
from hashring.telemetry.plugin import Discovery
from hashring.telemetry.plugin import Pollster
from hashring.telemetry.model.resource import Resource
from hashring.telemetry.model.sample import Measurement, Meter, MeterType

HERE = Path(__file__).parent
DEPTH = Meter("well.depth", MeterType.GAUGE, "m")

class Wells(Discovery):
    def discover(self, parameter=""):
        return [Resource(name, "well") for name in ("poison", *(f"good{{n}}" for n in range(20)))]

class Depth(Pollster):
    kinds = frozenset({{"well"}})
    meters = (DEPTH,)
    default_discovery = "wells"

    def poll(self, resource):
        what = (HERE / "what").read_text() if resource.id == "poison" else ""
        with (HERE / "polls").open("a") as file:
            file.write(f"{{resource.id}} {{time.time()}} {{os.getpid()}} {{what}}\\n")
        if what == "hold":
            ctypes.PyDLL(None).usleep(int({HOLD} * 1e6))  # PyDLL: with the interpreter held
        elif what == "memory":
            taken = bytearray(300 << 20)  # zeroed page by page: it is there
            taken[::4096] = bytes(len(taken[::4096])).replace(b"\\0", b"x")
            time.sleep(1)  # so that it can be seen, then the end that the kernel makes
            os.kill(os.getpid(), 9)
        return [Measurement(DEPTH, 1.0)]
'''


@pytest.fixture
def wells(tmp_path, monkeypatch):
    folder = tmp_path / "plugin"
    info = folder / "wells-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "wells.py").write_text(PLUGIN)
    (folder / "what").write_text("")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wells\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[hashring.discoveries]\nwells = wells:Wells\n[hashring.pollsters]\nwells = wells:Depth\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


def polls(wells):
    return [line.split(" ") for line in (wells / "polls").read_text().splitlines()]


def poisoned(wells, what):
    return [found for found in polls(wells) if found[0] == "poison" and found[3] == what]


@pytest.mark.parametrize("what", ["hold", pytest.param("memory", marks=pytest.mark.long)])
def test_a_poll_that_stops_its_agent_does_not_stop_the_heirs(tmp_path, wells, what):
    judged(lambda folder: play(folder, wells, what), tmp_path, late_in)


def play(folder, wells, what):
    (wells / "what").write_text("")
    (wells / "polls").write_text("")
    names = ("central-1", "central-2", "central-3")
    source = {"name": "wells", "interval": INTERVAL, "meters": ["well.depth"]}
    sections = {"hashring": {"ttl": TTL, "spread": 0.3}}
    with (
        RedisServer() as server,
        fleet(folder, f"redis://{server.address}", [source], sections=sections) as agents,
    ):
        for name in names:
            agents.start("central", name)
        agents.settle(*names)
        windows = Windows(INTERVAL)
        first = windows.sleep(1)
        (wells / "what").write_text(what)
        until(lambda: poisoned(wells, what), "the poison is polled")
        pid = int(poisoned(wells, what)[0][2])
        others = [name for name in names if agents.processes[name].pid != pid]

        def is_taken_over():
            return all(
                status["state"] == "settled"
                and "poison" in status["set_aside"]
                and status["groups"]["discovery:wells"]["members"] == others
                for status in map(agents.status, others)
            )

        until(is_taken_over, "the heirs know, and have taken over")
        taken_over = windows.next_start()
        last = windows.sleep(2)

        assert len(poisoned(wells, what)) == 1
        log = [(id_, float(at)) for id_, at, *_ in polls(wells)]
        good = [f"good{number}" for number in range(20)]
        missed, _ = windows.account(log, good, first, last)
        excusable(max(missed, default=0) < taken_over, missed)
        for name in others:
            excusable(agents.status(name)["missed"] == 0, agents.status(name))
            assert agents.said(name).count("poison is set aside") == 1


def test_a_witness_ends_with_its_agent_however_that_ends(tmp_path, wells):
    source = {"name": "wells", "interval": INTERVAL, "meters": ["well.depth"]}
    sections = {"hashring": {"ttl": TTL, "spread": 0.3}}
    with (
        RedisServer() as server,
        fleet(tmp_path, f"redis://{server.address}", [source], sections=sections) as agents,
    ):
        for name in ("stopped", "killed"):
            agents.start("central", name)
        agents.settle("stopped", "killed")
        witnesses = [children(agents.processes[name].pid) for name in ("stopped", "killed")]
        assert [len(found) for found in witnesses] == [1, 1]
        agents.kill("killed")
        agents.stop("stopped")
        for [witness] in witnesses:
            until(lambda witness=witness: not is_alive(witness), "the witness has ended")
        assert "set aside" not in agents.said("stopped")


def test_a_pause_of_an_agent_sets_nothing_aside(tmp_path, wells):
    source = {"name": "wells", "interval": INTERVAL, "meters": ["well.depth"]}
    sections = {"hashring": {"ttl": TTL, "spread": 0.3}}
    with (
        RedisServer() as server,
        fleet(tmp_path, f"redis://{server.address}", [source], sections=sections) as agents,
    ):
        for name in ("paused", "other"):
            agents.start("central", name)
        agents.settle("paused", "other")
        agents.processes["paused"].send_signal(signal.SIGSTOP)
        agents.settle("other")
        agents.processes["paused"].send_signal(signal.SIGCONT)
        agents.settle("paused", "other")
        for name in ("paused", "other"):
            assert agents.status(name)["set_aside"] == {}


def children(pid):
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def is_alive(pid):
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
