"""The instances of a hypervisor: their discovery and their meters, as in Ceilometer.

Names, types, units and the ids of disks and interfaces are those of Ceilometer's documentation
("OpenStack Compute") and of its compute agent. Cumulative meters are libvirt's own counters, so
that it does not matter which agent took the sample before.

A bulk reading at the start of a cycle serves all its polls; what the hypervisor's driver does not
tell in bulk is asked for in each poll. This room knows no libvirt call, member or sink.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from hashring.errors import BadArgument
from hashring.telemetry.model.resource import Resource
from hashring.telemetry.model.sample import Measurement, Meter, MeterType
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.plugin import Discovery, Pollster
from hashring.telemetry.sources.libvirt import domain, hypervisor
from hashring.telemetry.sources.libvirt.domain import Description
from hashring.telemetry.sources.libvirt.hypervisor import Statistics

__all__ = [
    "InstanceDiskPollster",
    "InstanceInterfacePollster",
    "InstancePollster",
    "LibvirtDiscovery",
]

_GAUGE, _CUMULATIVE = MeterType.GAUGE, MeterType.CUMULATIVE
_KIB_IN_MIB = 1024
_THIS_HOST = (None, "", "localhost", "127.0.0.1", "::1")


class LibvirtDiscovery(Discovery):
    """Each instance of the hypervisor, running or not, by its UUID.

    Attributes:
        is_local: false with ``workload_partitioning`` on a connection that the agents of several
            hosts can share: its instances are then split among them all. A URI that names no host
            leads to whatever host it is opened on, so its instances are always that host's.
        scope: of instances that are split, the connection's: agents of two hypervisors share
            nothing.

    Raises:
        MissingDependency: libvirt's Python binding is not installed.

    Example:
        >>> settings = Settings(
        ...     backend_url="memory://", member="a", host="web1", libvirt_uri="test:///default"
        ... )
        >>> [resource.id for resource in LibvirtDiscovery(settings).discover()]
        ['6695eb01-f6a4-8304-79aa-97f2502e193f']
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.is_local = not _is_shared(settings)
        if not self.is_local:
            # A digest, since a URI can bear a secret, and the group's name is for all to see.
            self.scope = hashlib.sha256(settings.libvirt_uri.encode()).hexdigest()[:8]
        self._hypervisor = hypervisor.shared(settings.libvirt_uri, settings.poll_timeout)
        self._names: Mapping[str, str] = {}
        self._found: list[Resource] = []

    def discover(self, parameter: str = "") -> Iterable[Resource]:
        """Return the instances, in the order of their ids.

        Raises:
            HypervisorUnavailable: the hypervisor cannot be reached; the next call tries again.
            BadArgument: there is a parameter.
        """
        if parameter:
            raise BadArgument(
                f"the discovery local_instances takes no parameter, and was given {parameter!r}: "
                "the hypervisor is chosen by the option libvirt_uri"
            )
        names = self._hypervisor.instances()
        if names != self._names:
            self._names = names
            self._found = [
                Resource(id_, "instance", MappingProxyType({"name": name}))
                for id_, name in names.items()
            ]
        return self._found


class _LibvirtPollster(Pollster):
    """Reads one group of statistics of all instances at once, and knows whose they are."""

    namespaces = frozenset({"compute"})
    kinds = frozenset({"instance"})
    default_discovery = "local_instances"
    group: str

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._hypervisor = hypervisor.shared(settings.libvirt_uri, settings.poll_timeout)
        self._hypervisor.retain()
        self._told: Mapping[str, Statistics] = {}

    def observe(self) -> None:
        """Read what the hypervisor tells of all instances at once.

        Raises:
            HypervisorUnavailable: it cannot be reached; the next call tries again.
        """
        self._told = {}  # where this fails, no poll may tell the former cycle's
        self._told = self._hypervisor.statistics(self.group)

    def close(self) -> None:
        """Let go of the connection, which the last of those that share it closes."""
        self._told = {}
        self._hypervisor.release()

    def _told_of(self, resource: Resource) -> Statistics:
        return self._told.get(resource.id, {})

    def _measurement(
        self,
        description: Description,
        state: int,
        *,
        resource_id: str | None = None,
        **further: Any,
    ) -> functools.partial[Measurement]:
        """Return what makes a measurement of a meter and a volume."""
        return functools.partial(
            Measurement,
            resource_id=resource_id,
            metadata=domain.metadata(description, state, host=self._host, **further),
            project_id=description.project_id,
            user_id=description.user_id,
        )

    @functools.cached_property
    def _host(self) -> str:
        # On a shared connection, the agent's own host is not where the instances are.
        return self._hypervisor.host() if _is_shared(self.settings) else self.settings.host


class InstancePollster(_LibvirtPollster):
    """Times, memory and state of each instance; sizes of its disks as its flavor has them."""

    CPU = Meter("cpu", _CUMULATIVE, "ns")
    VCPUS = Meter("vcpus", _GAUGE, "vcpu")
    MEMORY = Meter("memory", _GAUGE, "MB")
    USAGE = Meter("memory.usage", _GAUGE, "MB")
    RESIDENT = Meter("memory.resident", _GAUGE, "MB")
    SWAP_IN = Meter("memory.swap.in", _CUMULATIVE, "MB")
    SWAP_OUT = Meter("memory.swap.out", _CUMULATIVE, "MB")
    POWER_STATE = Meter("power.state", _GAUGE, "state")
    ROOT_SIZE = Meter("disk.root.size", _GAUGE, "GB")
    EPHEMERAL_SIZE = Meter("disk.ephemeral.size", _GAUGE, "GB")

    group = "instance"
    meters = (
        *(CPU, VCPUS, MEMORY, USAGE, RESIDENT, SWAP_IN, SWAP_OUT),
        *(POWER_STATE, ROOT_SIZE, EPHEMERAL_SIZE),
    )

    def poll(self, resource: Resource) -> Iterable[Measurement]:
        """Measure one instance."""
        told = self._hypervisor.instance(resource.id, self._told_of(resource))
        description = self._hypervisor.description(resource.id)
        state = int(told["state.state"])
        vcpus = told.get("vcpu.current", description.vcpus)
        measured = self._measurement(description, state)
        yield measured(self.POWER_STATE, state)
        yield measured(self.VCPUS, vcpus)
        yield measured(self.MEMORY, told.get("balloon.current", description.memory) / _KIB_IN_MIB)
        flavor = description.flavor or {}
        for meter, key in ((self.ROOT_SIZE, "disk"), (self.EPHEMERAL_SIZE, "ephemeral")):
            if key in flavor:
                yield measured(meter, flavor[key])
        if state == domain.SHUT_OFF:
            return
        if "cpu.time" in told:
            yield self._measurement(description, state, cpu_number=vcpus)(
                self.CPU, told["cpu.time"]
            )
        for meter, kib in self._memory(told):
            yield measured(meter, kib / _KIB_IN_MIB)

    def _memory(self, told: Statistics) -> Iterator[tuple[Meter, int]]:
        # What the guest could use without swapping counts as free; older guests do not tell it.
        free = told.get("balloon.usable", told.get("balloon.unused"))
        if free is not None and "balloon.available" in told:
            yield self.USAGE, told["balloon.available"] - free
        for meter, key in (
            (self.RESIDENT, "balloon.rss"),
            (self.SWAP_IN, "balloon.swap_in"),
            (self.SWAP_OUT, "balloon.swap_out"),
        ):
            if key in told:
                yield meter, told[key]


class InstanceDiskPollster(_LibvirtPollster):
    """Traffic and sizes of each disk of an instance; an empty drive is none."""

    METERS: Mapping[str, Meter] = MappingProxyType(
        {
            "rd.bytes": Meter("disk.device.read.bytes", _CUMULATIVE, "B"),
            "rd.reqs": Meter("disk.device.read.requests", _CUMULATIVE, "request"),
            "rd.times": Meter("disk.device.read.latency", _CUMULATIVE, "ns"),
            "wr.bytes": Meter("disk.device.write.bytes", _CUMULATIVE, "B"),
            "wr.reqs": Meter("disk.device.write.requests", _CUMULATIVE, "request"),
            "wr.times": Meter("disk.device.write.latency", _CUMULATIVE, "ns"),
            "capacity": Meter("disk.device.capacity", _GAUGE, "B"),
            "allocation": Meter("disk.device.allocation", _GAUGE, "B"),
            "physical": Meter("disk.device.usage", _GAUGE, "B"),
        }
    )

    group = "block"
    meters = tuple(METERS.values())

    def poll(self, resource: Resource) -> Iterable[Measurement]:
        """Measure the disks of one instance."""
        state, disks = self._hypervisor.disks(resource.id, self._told_of(resource))
        if not disks:
            return
        description = self._hypervisor.description(resource.id)
        for disk, told in disks.items():
            measured = self._measurement(
                description, state, resource_id=f"{resource.id}-{disk}", disk_name=disk
            )
            yield from _told_meters(self.METERS, told, measured)


class InstanceInterfacePollster(_LibvirtPollster):
    """Traffic of each network interface of an instance."""

    METERS: Mapping[str, Meter] = MappingProxyType(
        {
            "rx.bytes": Meter("network.incoming.bytes", _CUMULATIVE, "B"),
            "rx.pkts": Meter("network.incoming.packets", _CUMULATIVE, "packet"),
            "rx.drop": Meter("network.incoming.packets.drop", _CUMULATIVE, "packet"),
            "rx.errs": Meter("network.incoming.packets.error", _CUMULATIVE, "packet"),
            "tx.bytes": Meter("network.outgoing.bytes", _CUMULATIVE, "B"),
            "tx.pkts": Meter("network.outgoing.packets", _CUMULATIVE, "packet"),
            "tx.drop": Meter("network.outgoing.packets.drop", _CUMULATIVE, "packet"),
            "tx.errs": Meter("network.outgoing.packets.error", _CUMULATIVE, "packet"),
        }
    )

    group = "net"
    meters = tuple(METERS.values())

    def poll(self, resource: Resource) -> Iterable[Measurement]:
        """Measure the interfaces of one instance."""
        state, told_of = self._hypervisor.interfaces(resource.id, self._told_of(resource))
        if not told_of:
            return
        description = self._hypervisor.description(resource.id)
        for interface in description.interfaces:
            # Ceilometer's ids: the network filter's name, else instance, UUID and device. A filter
            # that does not bear the instance's name may be that of others too, so it is no id.
            own = interface.filter if description.name in (interface.filter or "") else None
            id_ = own or f"{description.name}-{resource.id}-{interface.name}"
            measured = self._measurement(
                description,
                state,
                resource_id=id_,
                vnic_name=own or interface.name,
                name=interface.name,
                mac=interface.mac,
                fref=interface.filter,
                parameters=dict(interface.parameters),
            )
            yield from _told_meters(self.METERS, told_of.get(interface.name, {}), measured)


def _is_shared(settings: Settings) -> bool:
    """Whether agents of other hosts see the same instances as this one, and are to share them."""
    try:
        uri = urlsplit(settings.libvirt_uri)
    except ValueError:
        return False  # libvirt will say what is wrong with it
    # libvirt's test hypervisor is nobody's: it is the same wherever it is opened.
    elsewhere = uri.hostname not in _THIS_HOST or uri.scheme.partition("+")[0] == "test"
    return settings.workload_partitioning and elsewhere


def _told_meters(
    meters: Mapping[str, Meter], told: Statistics, measured: functools.partial[Measurement]
) -> Iterator[Measurement]:
    for key, meter in meters.items():
        # libvirt writes -1 for what a driver does not count.
        if told.get(key, -1) >= 0:
            yield measured(meter, told[key])
