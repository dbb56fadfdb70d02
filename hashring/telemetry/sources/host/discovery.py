"""Discovery: which resources there are now. Each is a plug-in; ours look at this machine.

A discovery finds, it does not measure. Members of one group must find the same resources under
the same ids, or some will be polled by nobody; a resource that just one member has seen yet is
polled once its owner has seen it too. This module knows no member, meter or window.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable

from hashring.telemetry.model.resource import Resource, on_host
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.sources.host import machine

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
    ``hashring.discoveries``; a source names it by its entry point's name, with or without a
    parameter: ``interface``, ``http-targets:///etc/targets.json``.

    It is made once an agent, and is asked by one thread at a time for each parameter.

    Args:
        settings: what the agent is told to do.

    Attributes:
        is_local: it finds what belongs to this host, which agents of other hosts do not see. The
            group that shares it is then this host's own.
        finds_addresses: what it finds is reached over the network. A resource at a loopback or
            link-local address is then each host's own.
        scope: tells apart agents that find different resources under one name and parameter,
            e.g. on different hypervisors: those of one scope share a group.

    All may be attributes of the object instead.
    """

    is_local: bool = False
    finds_addresses: bool = False
    scope: str = ""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @abc.abstractmethod
    def discover(self, parameter: str = "") -> Iterable[Resource]:
        """Return the resources that there are now. Called before each cycle's polls.

        Where nothing has changed since the last call, return the very same object: its keys are
        then not hashed again.

        Args:
            parameter: what a source gives after ``NAME://``; empty where it gives nothing.

        Raises:
            Exception: is logged once per cause. The resources that were found last are polled on;
                where there were none, it costs this discovery's resources alone.
        """


class _LocalDiscovery(Discovery):
    is_local = True


class HostDiscovery(_LocalDiscovery):
    """This host as a whole.

    >>> settings = Settings(backend_url="memory://", member="a", host="web1")
    >>> [resource.id for resource in HostDiscovery(settings).discover()]
    ['web1:host']
    """

    def discover(self, parameter: str = "") -> Iterable[Resource]:
        """Return the one host."""
        return [on_host(self.settings.host, "host")]


class ProcessorDiscovery(_LocalDiscovery):
    """Each processor that the system schedules on: ``cpu0``, ``cpu1``, ..."""

    def discover(self, parameter: str = "") -> Iterable[Resource]:
        """Return the processors."""
        host = self.settings.host
        return [on_host(host, "processor", name) for name in machine.cpu_times()]


class DiskDiscovery(_LocalDiscovery):
    """Each block device and each partition that counts its traffic: ``sda``, ``sda1``, ..."""

    def discover(self, parameter: str = "") -> Iterable[Resource]:
        """Return the disks."""
        host = self.settings.host
        return [on_host(host, "disk", name) for name in machine.disk_counters()]


class FilesystemDiscovery(_LocalDiscovery):
    """Each mounted file system on a device, named by the device; its mount point beside it."""

    def discover(self, parameter: str = "") -> Iterable[Resource]:
        """Return the file systems."""
        host = self.settings.host
        return [
            on_host(host, "filesystem", device, mountpoint=mountpoint)
            for device, mountpoint in machine.filesystems().items()
        ]


class InterfaceDiscovery(_LocalDiscovery):
    """Each network interface: ``lo``, ``eth0``, ..."""

    def discover(self, parameter: str = "") -> Iterable[Resource]:
        """Return the interfaces."""
        host = self.settings.host
        return [on_host(host, "interface", name) for name in machine.interface_counters()]


class ProcessDiscovery(_LocalDiscovery):
    """Each process, named by its pid and its start: a pid alone is used again."""

    def discover(self, parameter: str = "") -> Iterable[Resource]:
        """Return the processes."""
        host = self.settings.host
        return [
            on_host(host, "process", f"{pid}.{start}", pid=str(pid), start=str(start))
            for pid, start in machine.processes()
        ]
