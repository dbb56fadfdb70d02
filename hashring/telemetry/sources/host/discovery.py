"""Discoveries of what this machine has: disks, interfaces, processes and the like.

They name what :mod:`~hashring.telemetry.sources.host.machine` tells of. What a discovery is stands
in :mod:`hashring.telemetry.plugin`. This module knows no meter.
"""

from __future__ import annotations

from collections.abc import Iterable

from hashring.telemetry.model.resource import Resource, on_host
from hashring.telemetry.plugin.discovery import Discovery
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


class _LocalDiscovery(Discovery):
    is_local = True


class HostDiscovery(_LocalDiscovery):
    """This host as a whole.

    >>> from hashring.telemetry.plugin import Settings
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
