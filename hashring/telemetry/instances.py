"""Names that are in :mod:`hashring.telemetry.sources.libvirt.instances` now, kept importable."""

from hashring.telemetry.sources.libvirt.instances import InstancePollster, LibvirtDiscovery

__all__ = ["InstancePollster", "LibvirtDiscovery"]
