import logging

import pytest

from hashring.telemetry.discovery import Discovery
from hashring.telemetry.machine import Gone
from hashring.telemetry.pipeline import Pipeline
from hashring.telemetry.pollsters import Pollster
from hashring.telemetry.resource import Resource
from hashring.telemetry.sample import Measurement, Meter, MeterType

LEVEL = Meter("tank.level", MeterType.GAUGE, "l")
TANKS = [Resource("plant", "tank", name) for name in ("north", "south", "west")]


class Tanks(Discovery):
    def discover(self):
        return TANKS


class Unreachable(Discovery):
    def discover(self):
        raise OSError("no route to plant")


class Levels(Pollster):
    kinds = frozenset({"tank"})
    meters = (LEVEL,)

    def __init__(self):
        self.readings = 0
        self.gone = set()
        self.jammed = set()
        self.blind = False

    def observe(self):
        if self.blind:
            raise TimeoutError("no answer")
        self.readings += 1

    def poll(self, resource):
        if resource.name in self.gone:
            raise Gone(f"{resource.name} was torn down")
        if resource.name in self.jammed:
            raise ValueError(f"{resource.name} reads -7")
        yield Measurement(LEVEL, self.readings)


@pytest.fixture
def levels():
    return Levels()


def polled(pipeline):
    found = pipeline.discover()
    pipeline.observe()
    return {id: [volume for _, volume in pipeline.poll(one)] for id, one in found.items()}


def test_what_is_discovered_is_measured(levels):
    assert polled(Pipeline([Tanks()], [levels])) == {
        "plant:tank:north": [1],
        "plant:tank:south": [1],
        "plant:tank:west": [1],
    }


def test_a_discovery_that_fails_costs_its_own_resources_alone(levels):
    assert len(polled(Pipeline([Unreachable(), Tanks()], [levels]))) == 3


def test_a_resource_that_fails_costs_its_own_sample_alone(levels):
    levels.jammed.add("south")

    found = polled(Pipeline([Tanks()], [levels]))

    assert [id for id, volumes in found.items() if not volumes] == ["plant:tank:south"]


def test_a_pollster_that_fails_leaves_the_others_measurements(levels):
    other = Levels()
    other.jammed.add("south")

    assert polled(Pipeline([Tanks()], [other, levels]))["plant:tank:south"] == [1]


def test_readings_of_an_earlier_cycle_do_not_pass_for_new_ones(levels):
    pipeline = Pipeline([Tanks()], [levels])
    polled(pipeline)
    levels.blind = True

    assert not any(polled(pipeline).values())

    levels.blind = False
    assert polled(pipeline)["plant:tank:north"] == [2]


def test_a_cause_is_logged_once_and_counted(levels, caplog):
    levels.jammed |= {"north", "south"}
    pipeline = Pipeline([Tanks()], [levels])

    polled(pipeline)
    polled(pipeline)

    assert len(caplog.records) == 1
    assert "plant:tank:north" in caplog.text
    assert "reads -7" in caplog.text
    assert pipeline.failures["poll by Levels", "ValueError"] == 4


def test_each_cause_is_logged(levels, caplog):
    levels.jammed.add("south")
    pipeline = Pipeline([Unreachable(), Tanks()], [levels])
    polled(pipeline)
    levels.blind = True
    polled(pipeline)

    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "discovery Unreachable failed",
        "poll by Levels of plant",
        "reading of Levels failed",
    ]


def test_that_things_end_is_no_warning(levels, caplog):
    levels.gone.add("west")
    pipeline = Pipeline([Tanks()], [levels])

    with caplog.at_level(logging.INFO):
        assert polled(pipeline)["plant:tank:west"] == []

    assert not caplog.records
    assert pipeline.failures["poll by Levels", "Gone"] == 1


def test_only_the_resources_asked_for_are_polled(levels):
    pipeline = Pipeline([Tanks()], [levels], only=["plant:tank:west", "plant:tank:gone"])

    assert list(polled(pipeline)) == ["plant:tank:west"]


def test_what_no_pollster_can_measure_is_not_there(levels):
    class Doors(Discovery):
        def discover(self):
            return [Resource("plant", "door", "1")]

    assert list(Pipeline([Doors()], [levels]).discover()) == []
