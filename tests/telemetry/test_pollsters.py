import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashring.telemetry.config.plan import Plugins
from hashring.telemetry.errors import Gone
from hashring.telemetry.model.resource import on_host
from hashring.telemetry.model.sample import MeterType
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.sources.host import machine
from hashring.telemetry.sources.host.discovery import (
    DiskDiscovery,
    FilesystemDiscovery,
    HostDiscovery,
    InterfaceDiscovery,
    ProcessDiscovery,
    ProcessorDiscovery,
)
from hashring.telemetry.sources.host.machine import CPUTimes
from hashring.telemetry.sources.host.pollsters import (
    CPUHistory,
    DiskPollster,
    FilesystemPollster,
    HostPollster,
    InterfacePollster,
    ProcessorPollster,
    ProcessPollster,
)

SETTINGS = Settings(backend_url="memory://", member="a", host=machine.host_id())
OURS = {
    HostPollster,
    ProcessorPollster,
    DiskPollster,
    FilesystemPollster,
    InterfacePollster,
    ProcessPollster,
}
DISCOVERIES = (
    HostDiscovery,
    ProcessorDiscovery,
    DiskDiscovery,
    FilesystemDiscovery,
    InterfaceDiscovery,
    ProcessDiscovery,
)

CEILOMETER = {
    # Ceilometer's documentation, "SNMP based meters" and (compute.node) Nova's host metrics.
    "hardware.cpu.load.1min": ("gauge", "process"),
    "hardware.cpu.load.5min": ("gauge", "process"),
    "hardware.cpu.load.15min": ("gauge", "process"),
    "hardware.cpu.util": ("gauge", "%"),
    "hardware.disk.size.total": ("gauge", "KB"),
    "hardware.disk.size.used": ("gauge", "KB"),
    "hardware.memory.total": ("gauge", "KB"),
    "hardware.memory.used": ("gauge", "KB"),
    "hardware.memory.buffer": ("gauge", "KB"),
    "hardware.memory.cached": ("gauge", "KB"),
    "hardware.memory.swap.total": ("gauge", "KB"),
    "hardware.memory.swap.avail": ("gauge", "KB"),
    "hardware.network.incoming.bytes": ("cumulative", "B"),
    "hardware.network.outgoing.bytes": ("cumulative", "B"),
    "hardware.network.outgoing.errors": ("cumulative", "packet"),
    "hardware.system_stats.cpu.idle": ("gauge", "%"),
    "compute.node.cpu.user.time": ("cumulative", "ns"),
    "compute.node.cpu.kernel.time": ("cumulative", "ns"),
    "compute.node.cpu.idle.time": ("cumulative", "ns"),
    "compute.node.cpu.iowait.time": ("cumulative", "ns"),
}
DEPARTS = {
    # A gauge there, though it counts since boot.
    "hardware.disk.read.bytes": ("cumulative", "B"),
    "hardware.disk.write.bytes": ("cumulative", "B"),
    "hardware.disk.read.requests": ("cumulative", "requests"),
    "hardware.disk.write.requests": ("cumulative", "requests"),
}


def installed():
    """The installed pollsters of this machine."""
    return [found for found in Plugins.installed(SETTINGS).pollsters if type(found) in OURS]


def test_every_pollster_of_this_machine_is_installed():
    assert {type(found) for found in installed()} == OURS


def test_names_types_and_units_are_ceilometers():
    ours = {
        meter.name: (str(meter.type), meter.unit)
        for pollster in installed()
        for meter in pollster.meters
    }

    assert ours.items() >= (CEILOMETER | DEPARTS).items()
    further = ours.keys() - CEILOMETER.keys() - DEPARTS.keys()
    assert all(re.match(r"process\.|hardware\.network\.", name) for name in further)


def test_a_meter_that_two_pollsters_tell_is_one_meter():
    by_name = {}
    for pollster in installed():
        for meter in pollster.meters:
            assert by_name.setdefault(meter.name, meter) == meter


def test_every_resource_of_this_machine_is_measured_by_what_its_pollster_declares():
    pollsters = installed()
    resources = [found for discovery in DISCOVERIES for found in discovery(SETTINGS).discover()]
    for pollster in pollsters:
        pollster.observe()

    measured_kinds = set()
    for resource in resources:
        for pollster in pollsters:
            if resource.kind not in pollster.kinds:
                continue
            try:
                measured = list(pollster.poll(resource))
            except Gone:
                assert resource.kind == "process"
                continue
            assert {found.meter for found in measured} <= set(pollster.meters)
            assert all(found.volume >= 0 for found in measured)
            measured_kinds.add(resource.kind)
    assert measured_kinds == {resource.kind for resource in resources}


def test_cumulative_meters_never_fall():
    pollsters = {type(pollster): pollster for pollster in installed()}
    first: dict[tuple[str, str], float] = {}
    host = machine.host_id()
    fixed = [on_host(host, "interface", "lo"), on_host(host, "processor", "cpu0")]

    for _ in range(3):
        for pollster in pollsters.values():
            pollster.observe()
            for resource in fixed:
                if resource.kind in pollster.kinds:
                    for meter, volume, *_ in pollster.poll(resource):
                        if meter.type is MeterType.CUMULATIVE:
                            before = first.setdefault((meter.name, resource.id), volume)
                            assert volume >= before
    assert len(first) == 4 + 8


@pytest.mark.parametrize(
    ("pollster", "kind"),
    [(DiskPollster, "disk"), (InterfacePollster, "interface"), (ProcessorPollster, "processor")],
)
def test_what_is_unplugged_is_gone(pollster, kind):
    made = pollster(SETTINGS)
    made.observe()

    with pytest.raises(Gone, match="unplugged0"):
        list(made.poll(on_host(machine.host_id(), kind, "unplugged0")))


def times(busy, idle):
    return CPUTimes(user=busy, kernel=0.0, idle=idle, iowait=0.0)


def test_a_share_of_time_is_told_from_a_reading_that_is_old_enough():
    history = CPUHistory(span=0.5)
    history.add(0.0, {"cpu0": times(0, 0)})
    history.add(1.0, {"cpu0": times(1.0, 0)})
    # A window can come twice in a moment: what passed since is too short to tell a share of.
    history.add(1.01, {"cpu0": times(1.0, 0.01)})

    assert history.util("cpu0") == pytest.approx(100 * 1.0 / 1.01)


def test_a_processor_that_came_online_just_now_has_no_share_yet():
    history = CPUHistory()
    history.add(0.0, {"cpu0": times(0, 0)})
    history.add(1.0, {"cpu0": times(0.5, 0.5), "cpu1": times(0, 0)})

    assert history.util("cpu0") == 50.0
    assert history.util("cpu1") is None


def test_the_share_of_the_host_is_that_of_all_its_processors():
    history = CPUHistory()
    history.add(0.0, {"cpu0": times(0, 0), "cpu1": times(0, 0)})
    history.add(1.0, {"cpu0": times(1, 0), "cpu1": times(0, 1)})

    assert history.util("cpu0", "cpu1") == 50.0


@given(
    st.lists(
        st.tuples(st.floats(0.001, 10), st.floats(-0.01, 10), st.floats(-0.01, 10)), min_size=1
    )
)
def test_a_share_lies_between_0_and_100_even_where_counts_step_back(steps):
    history = CPUHistory()
    now = busy = idle = 0.0
    history.add(now, {"cpu0": times(busy, idle)})
    for seconds, worked, rested in steps:
        now, busy, idle = now + seconds, busy + worked, idle + rested
        history.add(now, {"cpu0": times(busy, idle)})

        util = history.util("cpu0")

        assert util is None or 0 <= util <= 100
