import dataclasses
import json
import os
import subprocess
import sys

import psutil
import pytest

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

SETTINGS = Settings(backend_url="memory://", member="a", host=machine.host_id())
LASTING = [
    HostDiscovery,
    ProcessorDiscovery,
    DiskDiscovery,
    FilesystemDiscovery,
    InterfaceDiscovery,
]


def ids(*discoveries):
    return [found.id for discovery in discoveries for found in discovery(SETTINGS).discover()]


def test_another_process_finds_the_same_resources_under_the_same_ids():
    script = """
import json
from hashring.telemetry.sources.host import discovery
from hashring.telemetry.sources.host import machine
from hashring.telemetry.model.settings import Settings
settings = Settings(backend_url="memory://", member="b", host=machine.host_id())
names = ["Host", "Processor", "Disk", "Filesystem", "Interface", "Process"]
made = [getattr(discovery, name + "Discovery")(settings) for name in names]
print(json.dumps([found.id for one in made for found in one.discover()]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    theirs = set(json.loads(done.stdout))

    lasting = set(ids(*LASTING))
    assert lasting <= theirs
    mine = [id for id in ids(ProcessDiscovery) if f":process:{os.getpid()}." in id]
    assert len(mine) == 1
    assert mine[0] in theirs


def test_no_two_resources_have_one_id():
    found = ids(*LASTING, ProcessDiscovery)

    assert len(found) == len(set(found))


def test_there_is_a_processor_for_each_that_the_system_schedules_on():
    assert len(ids(ProcessorDiscovery)) == psutil.cpu_count()


def test_the_loopback_interface_and_the_root_file_system_are_found():
    assert f"{machine.host_id()}:interface:lo" in ids(InterfaceDiscovery)
    mountpoints = [
        found.attributes["mountpoint"] for found in FilesystemDiscovery(SETTINGS).discover()
    ]
    assert "/" in mountpoints


def test_a_process_that_ended_is_gone_even_if_it_is_asked_for_by_its_own_start():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    start = dict(machine.processes())[child.pid]
    assert machine.process_usage(child.pid, start).threads == 1
    child.communicate()

    with pytest.raises(machine.Gone, match=str(child.pid)):
        machine.process_usage(child.pid, start)


def test_a_later_process_with_the_same_pid_is_another_one():
    start = dict(machine.processes())[os.getpid()]

    assert machine.process_usage(os.getpid(), start).resident > 0
    with pytest.raises(machine.Gone, match="another one has its pid"):
        machine.process_usage(os.getpid(), start - 1)


def test_a_process_is_known_by_its_start_whatever_it_calls_itself(tmp_path):
    odd = tmp_path / "a) R (b c"
    odd.symlink_to(sys.executable)
    child = subprocess.Popen([odd, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        ticks = os.sysconf("SC_CLK_TCK")
        told = psutil.Process(child.pid).create_time() - psutil.boot_time()
        # psutil goes by the wall clock, which is why ours does not; they agree to a second.
        assert dict(machine.processes())[child.pid] / ticks == pytest.approx(told, abs=1.5)
    finally:
        child.communicate()


def test_a_file_system_that_was_unmounted_and_its_folder_removed_is_gone(tmp_path):
    with pytest.raises(machine.Gone):
        machine.filesystem_usage(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("discovery", [*LASTING, ProcessDiscovery])
def test_what_a_host_has_is_that_hosts_alone(discovery):
    assert discovery(SETTINGS).is_local
    elsewhere = discovery(dataclasses.replace(SETTINGS, host="elsewhere")).discover()
    assert all(found.id.startswith("elsewhere:") for found in elsewhere)
