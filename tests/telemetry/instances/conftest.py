"""What the tests of the compute agent's modules share: its meters, and ways to poll an instance."""

import libvirt
import pytest

from hashring.telemetry.model.resource import Resource
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.sources.libvirt.instances import (
    InstanceDiskPollster,
    InstanceInterfacePollster,
    InstancePollster,
)

POLLSTERS = (InstancePollster, InstanceDiskPollster, InstanceInterfacePollster)


CEILOMETER = {
    # Ceilometer's documentation, "OpenStack Compute".
    "cpu": ("cumulative", "ns"),
    "vcpus": ("gauge", "vcpu"),
    "memory": ("gauge", "MB"),
    "memory.usage": ("gauge", "MB"),
    "memory.resident": ("gauge", "MB"),
    "memory.swap.in": ("cumulative", "MB"),
    "memory.swap.out": ("cumulative", "MB"),
    "power.state": ("gauge", "state"),
    "disk.root.size": ("gauge", "GB"),
    "disk.ephemeral.size": ("gauge", "GB"),
    "disk.device.read.bytes": ("cumulative", "B"),
    "disk.device.read.requests": ("cumulative", "request"),
    "disk.device.read.latency": ("cumulative", "ns"),
    "disk.device.write.bytes": ("cumulative", "B"),
    "disk.device.write.requests": ("cumulative", "request"),
    "disk.device.write.latency": ("cumulative", "ns"),
    "disk.device.capacity": ("gauge", "B"),
    "disk.device.allocation": ("gauge", "B"),
    "disk.device.usage": ("gauge", "B"),
    "network.incoming.bytes": ("cumulative", "B"),
    "network.incoming.packets": ("cumulative", "packet"),
    "network.incoming.packets.drop": ("cumulative", "packet"),
    "network.incoming.packets.error": ("cumulative", "packet"),
    "network.outgoing.bytes": ("cumulative", "B"),
    "network.outgoing.packets": ("cumulative", "packet"),
    "network.outgoing.packets.drop": ("cumulative", "packet"),
    "network.outgoing.packets.error": ("cumulative", "packet"),
}


def settings(uri, **further):
    told = {"backend_url": "memory://", "member": "a", "host": "web1", "libvirt_uri": uri}
    return Settings(**{**told, **further})


def instance(id_):
    return Resource(id_, "instance")


@pytest.fixture
def poll():
    """Poll an instance by every pollster, each after a reading of the whole."""
    made = {}

    def poll(uri, id_, **further):
        key = (uri, *further.items())
        pollsters = made.setdefault(
            key, [kind(settings(uri, **further)) for kind in POLLSTERS] if key not in made else []
        )
        measured = []
        for pollster in pollsters:
            pollster.observe()
            for found in pollster.poll(instance(id_)):
                assert found.meter in pollster.meters
                measured.append(found)
        return measured

    yield poll
    for pollsters in made.values():
        for pollster in pollsters:
            pollster.close()


@pytest.fixture
def default():
    """The test hypervisor of this process, as whoever administers it sees it; restored."""
    connection = libvirt.open("test:///default")
    yield connection
    connection.close()


def volumes(measured, resource_id=None):
    return {
        found.meter.name: found.volume for found in measured if found.resource_id == resource_id
    }
