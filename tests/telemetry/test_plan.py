"""From sources, discoveries and pollsters to groups, loops and names: the same on every host."""

import json
import os
import subprocess
import sys

import pytest

from hashring.errors import HashringError
from hashring.plugins import UnknownPlugin
from hashring.telemetry.config.plan import NothingToPoll, Plugins, make_plan
from hashring.telemetry.overlap.overlap import Announcement, compare
from hashring.telemetry.plugin import Pollster
from tests.telemetry.plant import Heats, Levels, LocalTanks, Tanks, plan, plugins, settings


@pytest.fixture
def polling(tmp_path):
    """Return settings whose polling definition has these sources."""

    def write(*sources, **changes):
        path = tmp_path / "polling.yaml"
        whole = [
            {"name": f"s{n}", "interval": 60, "meters": ["*"]} | found
            for n, found in enumerate(sources)
        ]
        path.write_text(json.dumps({"sources": whole}))
        return settings(**{"group": None, "polling_file": path} | changes)

    return write


def names(found):
    return [group.name for group in found.groups]


def test_a_source_that_names_nothing_polls_what_each_pollsters_default_discovery_finds(polling):
    given = polling({})
    boilers = Heats(given)
    boilers.default_discovery = "boilers"

    found = plan(given, Levels(given), boilers, tanks=Tanks(given), boilers=Tanks(given))

    assert names(found) == ["discovery:tanks", "discovery:boilers"]
    [[levels], [heats]] = [group.loops[0].tasks[0].pollsters for group in found.groups]
    assert (type(levels), type(heats)) == (Levels, Heats)


def test_a_source_polls_all_its_meters_of_what_it_names(polling):
    given = polling({"discovery": ["tanks://west"], "resources": ["tank://7"]})
    tanks = Tanks(given)

    found = plan(given, Levels(given), Heats(given), tanks=tanks)

    assert [name.partition(":")[0] for name in names(found)] == ["resources", "discovery"]
    assert names(found)[1] == "discovery:tanks://west"
    for group in found.groups:
        assert {type(one) for one in group.loops[0].tasks[0].pollsters} == {Levels, Heats}
    assert [one.id for one in found.groups[0].finders[0].discover()] == ["tank://7"]
    found.groups[1].finders[0].discover()
    assert tanks.parameters == ["west"]


def test_a_discovery_that_is_named_twice_is_one_task(polling):
    given = polling({"discovery": ["tanks", "tanks"]})

    [group] = plan(given).groups

    assert len(group.loops[0].tasks) == 1


def test_sources_with_one_discovery_share_a_group_for_each_interval(polling):
    given = polling(
        {"interval": 600, "meters": ["tank.heat"]},
        {"interval": 60, "meters": ["tank.level"]},
        {"interval": 60, "meters": ["tank.*"]},
    )

    found = plan(given, Levels(given), Heats(given), tanks=Tanks(given))

    told = {
        group.name: [
            (task.source, sorted(type(one).__name__ for one in task.pollsters))
            for task in group.loops[0].tasks
        ]
        for group in found.groups
    }
    assert told == {
        "discovery:tanks": [("s1", ["Levels"]), ("s2", ["Heats", "Levels"])],
        "discovery:tanks/600s": [("s0", ["Heats"])],
    }
    assert [[loop.interval for loop in group.loops] for group in found.groups] == [[60.0], [600.0]]


def test_the_prefix_stands_in_front_of_every_group_and_the_host_behind_local_ones(polling):
    given = polling(
        {"discovery": ["tanks", "sheds"], "resources": ["tank://a"]},
        group_prefix="blue",
        host="web1",
    )

    found = plan(given, tanks=Tanks(given), sheds=LocalTanks(given))

    assert [name for name in names(found) if not name.startswith("blue-resources:")] == [
        "blue-discovery:tanks",
        "blue-discovery:sheds@web1",
    ]
    assert [group.is_local for group in found.groups] == [False, False, True]


def test_one_group_for_all_is_made_where_it_is_asked_for(polling):
    given = polling({"discovery": ["tanks", "sheds"]}, {"interval": 5}, group="one")

    [group] = plan(given, tanks=Tanks(given), sheds=Tanks(given)).groups

    assert group.name == "one"
    assert [finder.name for finder in group.finders] == ["discovery:tanks", "discovery:sheds"]
    assert [loop.interval for loop in group.loops] == [5.0, 60.0]


def test_without_any_definition_everything_is_polled():
    found = plan(settings(interval=7.0))

    [loop] = found.groups[0].loops
    assert loop.interval == 7.0
    assert loop.tasks[0].names() == {"tank.level"}
    assert found.pipeline is None
    assert found.publishers_for("tank.level") == ("stdout://",)


def test_a_pipeline_of_old_says_itself_what_to_poll(tmp_path):
    path = tmp_path / "pipeline.yaml"
    path.write_text(
        json.dumps(
            {
                "sources": [
                    {"name": "old", "interval": 600, "meters": ["tank.*"], "sinks": ["sink"]}
                ],
                "sinks": [{"name": "sink", "publishers": ["stdout://", "file:///x"]}],
            }
        )
    )

    found = plan(settings(pipeline_file=path))

    assert [loop.interval for loop in found.groups[0].loops] == [600.0]
    assert found.publishers_for("tank.level") == ("stdout://", "file:///x")
    assert found.publishers_for("cpu") == ()


SCRIPT = """
import sys
from pathlib import Path
from hashring.telemetry.config.plan import Plugins, make_plan
from tests.telemetry.plant import Levels, settings
given = settings(group=None, polling_file=Path(sys.argv[1]))
print(*(group.name for group in make_plan(given, Plugins({}, (Levels(given),))).groups))
"""


def test_processes_name_a_list_of_resources_alike_whatever_their_hash_seed(polling, tmp_path):
    lists = (["tank://b", "tank://a"], ["tank://a", "tank://b", "tank://a"], ["tank://a"])
    told = []
    for seed, resources in zip(("1", "2", "3"), lists, strict=True):
        path = polling({"resources": resources}).polling_file
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(path)],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": "."},
            capture_output=True,
            text=True,
            check=True,
        )
        told.append(done.stdout.strip())

    assert told[0].startswith("resources:")
    assert told[0] == told[1]  # the same resources, in another order and one twice
    assert told[0] != told[2]


def test_static_resources_that_no_pollster_here_measures_are_named_by_source(polling):
    given = polling({"resources": ["snmp://a", "tank://b"]}, {"resources": ["snmp://me:pw@c"]})

    found = plan(given)

    assert len(found.groups) == 1
    assert found.unpolled == {"s0": ("snmp://a",), "s1": ("snmp://me:***@c",)}


def test_static_resources_that_two_lists_have_in_common_are_warned_of(polling):
    one = {"resources": ["tank://a", "tank://b", "tank://c"]}
    given = polling(
        one,
        {"resources": ["tank://c", "tank://b"], "meters": ["tank.*"]},
        one,  # the same list: the same group, in which each is polled once
        {"resources": ["tank://a"], "interval": 5},  # other windows
        {"resources": ["tank://a"], "meters": ["tank.heat"]},  # other meters
    )

    [warning] = plan(given, Levels(given)).warnings()

    assert "'s0' and 's1'" in warning
    assert "tank://b and 1 more" in warning


def test_a_group_of_resources_that_nobody_measures_is_not_joined(polling):
    with pytest.raises(NothingToPoll, match="static resources"):
        plan(polling({"resources": ["snmp://a"]}))


def test_secrets_in_a_discovery_are_in_no_groups_name(polling):
    given = polling(*({"discovery": [f"tanks://me:{word}@sd"]} for word in ("hunter2", "hunter3")))
    tanks = Tanks(given)

    found = plan(given, tanks=tanks)

    # Two discoveries all the same, and each gets what was written.
    assert len(set(names(found))) == 2
    assert "hunter" not in str(names(found))
    for group in found.groups:
        group.finders[0].discover()
    assert tanks.parameters == ["me:hunter2@sd", "me:hunter3@sd"]


def test_every_publisher_is_checked_and_every_sink_that_names_it_is_told(tmp_path):
    path = tmp_path / "pipeline.yaml"
    sinks = {"one": "pigeon://", "two": "pigeon://", "three": "file:///x?max_byte=1"}
    path.write_text(
        json.dumps(
            {
                "sources": [
                    {"name": "s", "interval": 5, "meters": ["*"], "sinks": list(sinks)},
                ],
                "sinks": [{"name": name, "publishers": [url]} for name, url in sinks.items()],
            }
        )
    )

    pigeon, file = plan(settings(pipeline_file=path)).publisher_problems().values()

    assert "sink 'one', 'two': no publisher pigeon://" in str(pigeon)
    assert "sink 'three': 'file:///x?max_byte=1': unknown option 'max_byte'" in str(file)


def test_where_samples_go_without_a_pipeline_is_checked_too():
    with pytest.raises(UnknownPlugin, match=r"\[hashring\] output: no publisher pigeon://"):
        plan(settings(output="pigeon://coop")).check_publishers()


def test_what_no_pollster_here_tells_is_named_by_source(polling):
    given = polling({"meters": ["tank.level", "cpu", "disk.*"]}, {"meters": ["!tank.level"]})

    found = plan(given, Levels(given), Heats(given), tanks=Tanks(given))

    assert found.unserved == {"s0": ("cpu", "disk.*")}


def test_nothing_to_poll_at_all_is_an_error_that_says_what_was_asked_for(polling):
    given = polling({"name": "instances", "meters": ["cpu"]})

    with pytest.raises(NothingToPoll, match=r"central.*'instances'") as failure:
        plan(given)

    assert isinstance(failure.value, HashringError)


def test_a_discovery_that_is_not_installed_is_an_error_that_lists_those_that_are(polling):
    with pytest.raises(UnknownPlugin, match=r"'s0': no discovery 'tank' .*installed: tanks"):
        plan(polling({"discovery": ["tank"]}))


def test_a_publisher_that_is_not_installed_is_named_with_its_secrets_masked(tmp_path):
    path = tmp_path / "pipeline.yaml"
    path.write_text(
        json.dumps(
            {
                "sources": [{"name": "all", "meters": ["*"], "sinks": ["coop"]}],
                "sinks": [{"name": "coop", "publishers": ["pigeon://me:hunter2@coop"]}],
            }
        )
    )
    polling = tmp_path / "polling.yaml"
    polling.write_text('{"sources": [{"name": "all", "interval": 5, "meters": ["*"]}]}')

    found = plan(settings(pipeline_file=path, polling_file=polling))

    [(url, problem)] = found.publisher_problems().items()
    assert "hunter2" not in f"{url}{problem}"
    with pytest.raises(UnknownPlugin, match=r"'coop': no publisher pigeon://.*stdout"):
        found.check_publishers()


class Open(Pollster):
    """Tells meters that are known only once they are seen."""

    kinds = frozenset({"tank"})
    prefix = "plant."

    def poll(self, resource):
        return []


def announcement(found, **changes):
    fields = {"member": "a", "host": "h", "prefix": "one"} | changes
    return Announcement(**fields, shared=found.meters(local=False), local=found.meters(local=True))


def test_a_plan_says_which_meters_it_polls_of_whose_resources(polling):
    given = polling(
        {"discovery": ["tanks"], "meters": ["tank.level"]},
        {"discovery": ["sheds"], "meters": ["tank.heat"]},
    )

    found = plan(given, Levels(given), Heats(given), tanks=Tanks(given), sheds=LocalTanks(given))

    assert found.meters(local=False) == {"tank.level"}
    assert found.meters(local=True) == {"tank.heat"}


@pytest.mark.parametrize(
    ("mine", "theirs", "overlaps"),
    [
        (["plant.a*"], ["plant.b*"], False),
        (["plant.a*"], ["plant.ab"], True),
        (["*"], ["plant.ab"], True),
        (["*", "!plant.a*"], ["plant.ab"], False),
        (["!plant.a*"], ["plant.b"], True),
        (["tank.level", "plant.x"], ["plant.y"], False),
    ],
)
def test_meters_that_are_not_known_beforehand_are_announced_as_patterns(
    polling, mine, theirs, overlaps
):
    def announced(meters, **changes):
        given = polling({"discovery": ["tanks"], "meters": meters})
        found = plan(given, Levels(given), Open(given), tanks=Tanks(given))
        return announcement(found, **changes)

    found = compare(announced(mine), announced(theirs, member="b", prefix="two"))

    assert (found is not None) == overlaps


def test_only_the_pollsters_of_the_agents_namespaces_are_made():
    central = Plugins.installed(settings(namespaces=("central",)))

    assert {"interface", "host"} <= set(central.discoveries)
    assert all("central" in pollster.namespaces for pollster in central.pollsters)
    with pytest.raises(NothingToPoll):
        make_plan(settings(), plugins(settings(), Mute(settings())))


class Mute(Levels):
    meters = ()


def test_pollsters_that_are_used_are_each_named_once(polling):
    given = polling({}, {"interval": 5}, {"discovery": ["tanks"]})
    levels, heats = Levels(given), Heats(given)
    heats.meters = ()

    found = plan(given, levels, heats, tanks=Tanks(given))

    assert found.pollsters == (levels,)


@pytest.fixture
def relative(tmp_path):
    """Return settings with a definition that is asked of the resources a source names."""
    folder = tmp_path / "definitions"
    folder.mkdir()
    (folder / "web.yaml").write_text(
        "- {name: web.load, sample_type: gauge, unit: u, value_attribute: load, url_path: status}\n"
    )

    def make(*sources):
        path = tmp_path / "polling.yaml"
        whole = [{"name": f"s{n}", "interval": 60} | one for n, one in enumerate(sources)]
        path.write_text(json.dumps({"sources": whole}))
        return settings(polling_file=path, definition_dirs=(folder,), group=None)

    return make


def test_a_source_without_resources_is_told_that_these_are_missing_not_the_pollster(relative):
    with pytest.raises(NothingToPoll) as refused:
        make_plan(relative({"meters": ["web.load"]}))

    told = str(refused.value)
    assert "source 's0' does not say of which resources: web.load" in told
    assert "give the source resources or a discovery" in told
    assert "no pollster" not in told


def test_a_meter_without_resources_is_a_warning_where_other_meters_are_polled(relative):
    found = make_plan(relative({"meters": ["web.load", "hardware.cpu.load.1min"]}))

    assert found.homeless == {"s0": ("web.load",)}
    [warning] = found.warnings()
    assert "web.load" in warning
    assert "resources" in warning


def test_resources_of_another_kind_are_named_as_the_cause_that_nothing_is_polled(relative):
    with pytest.raises(
        NothingToPoll, match=r"'s0'.*do not measure the static resources snmp://switch"
    ):
        make_plan(relative({"meters": ["web.load"], "resources": ["snmp://switch"]}))
