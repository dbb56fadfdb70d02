"""Discovery: which resources there are now. Each is a plug-in; ours look at this machine.

A discovery finds, it does not measure. Members of one group must find the same resources under
the same ids, or some will be polled by nobody; a resource that just one member has seen yet is
polled once its owner has seen it too. This room knows no member, meter or window.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable

from hashring.telemetry import machine
from hashring.telemetry.resource import Resource

__all__ = [
    "Discovery",
    "DiskDiscovery",
    "FilesystemDiscovery",
    "HostDiscovery",
    "InterfaceDiscovery",
    "ProcessDiscovery",
    "ProcessorDiscovery",
]


class Discovery(abc.ABC):
    """Finds resources. A plug-in is a subclass under the entry-point group
    ``hashring.discoveries``; it is made without arguments, once an agent.
    """

    @abc.abstractmethod
    def discover(self) -> Iterable[Resource]:
        """Return the resources that there are now. Called before each cycle's polls.

        Whatever it raises is logged once per cause and costs this discovery's resources alone.
        """


class HostDiscovery(Discovery):
    """This host as a whole.

    >>> [resource.kind for resource in HostDiscovery().discover()]
    ['host']
    """

    def discover(self) -> Iterable[Resource]:
        """Return the one host."""
        return [Resource(machine.host_id(), "host")]


class ProcessorDiscovery(Discovery):
    """Each processor that the system schedules on: ``cpu0``, ``cpu1``, ..."""

    def discover(self) -> Iterable[Resource]:
        """Return the processors."""
        host = machine.host_id()
        return [Resource(host, "processor", name) for name in machine.cpu_times()]


class DiskDiscovery(Discovery):
    """Each block device and each partition that counts its traffic: ``sda``, ``sda1``, ..."""

    def discover(self) -> Iterable[Resource]:
        """Return the disks."""
        host = machine.host_id()
        return [Resource(host, "disk", name) for name in machine.disk_counters()]


class FilesystemDiscovery(Discovery):
    """Each mounted file system on a device, named by the device; its mount point beside it."""

    def discover(self) -> Iterable[Resource]:
        """Return the file systems."""
        host = machine.host_id()
        return [
            Resource(host, "filesystem", device, {"mountpoint": mountpoint})
            for device, mountpoint in machine.filesystems().items()
        ]


class InterfaceDiscovery(Discovery):
    """Each network interface: ``lo``, ``eth0``, ..."""

    def discover(self) -> Iterable[Resource]:
        """Return the interfaces."""
        host = machine.host_id()
        return [Resource(host, "interface", name) for name in machine.interface_counters()]


class ProcessDiscovery(Discovery):
    """Each process, named by its pid and its start: a pid alone is used again."""

    def discover(self) -> Iterable[Resource]:
        """Return the processes."""
        host = machine.host_id()
        return [
            Resource(host, "process", f"{pid}.{start}", {"pid": str(pid), "start": str(start)})
            for pid, start in machine.processes()
        ]
