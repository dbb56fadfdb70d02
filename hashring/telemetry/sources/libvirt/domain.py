"""Description: what the XML of a libvirt domain tells of an instance: devices, size, owner.

The XML is libvirt's own ("Domain XML format" in its manual); an instance that Nova made carries
Nova's block of metadata in it, under one of the namespaces ``.../libvirt/nova/1.x``. This module
only reads a text: it knows no connection, meter or sample.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from xml.etree import ElementTree

from hashring.telemetry.sources.libvirt import bounded_xml

__all__ = ["SHUT_OFF", "Description", "Interface", "describe", "metadata"]

_NOVA = "{http://openstack.org/xmlns/libvirt/nova/"

SHUT_OFF = 5
"""libvirt's number of the state in which nothing runs (``VIR_DOMAIN_SHUTOFF``)."""

_STATES = {
    # libvirt's virDomainState: Nova's power state and, from it, the likely status.
    0: ("pending", "building"),
    1: ("running", "active"),
    2: ("running", "active"),  # blocked on a resource
    3: ("paused", "paused"),
    4: ("shutdown", "stopped"),  # being shut down
    SHUT_OFF: ("shutdown", "stopped"),
    6: ("crashed", "error"),
    7: ("suspended", "suspended"),
}

_FLAVOR = {"memory": "ram", "vcpus": "vcpus", "disk": "disk", "ephemeral": "ephemeral"}
"""Nova's elements, and what Nova's API and Ceilometer call them. ``disk`` is the root disk's."""


@dataclasses.dataclass(frozen=True, slots=True)
class Interface:
    """One network interface of an instance.

    Attributes:
        name: the device on the host, e.g. ``"tap1a2b3c4d-5e"``.
        mac: its address; empty where the domain tells none.
        filter: the name of its network filter; ``None``: it has none.
        parameters: the filter's, with names in lower case.
    """

    name: str
    mac: str = ""
    filter: str | None = None
    parameters: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Description:
    """What a domain's XML tells.

    Attributes:
        id: the UUID.
        name: the domain's name, e.g. ``"instance-0000002a"``.
        vcpus: the number of its virtual processors now.
        memory: what it is allocated now, in KiB.
        os_type: e.g. ``"hvm"``; architecture: e.g. ``"x86_64"``.
        disks: the devices that have something behind them, e.g. ``"vda"``.
        empty_drives: those that have not: an empty CD-ROM drive.
        interfaces: those that have a device on the host.
        display_name: as its owner calls it; the domain's name where Nova says nothing.
        flavor: Nova's: ``name``, where told ``id``, and numbers: ``vcpus``, ``ram`` and ``swap``
            in MiB, ``disk`` (the root disk) and ``ephemeral`` in GiB; ``None``: no word of Nova's.
        image: the id of the image it was made from, where it was made from one.
        project_id: whose it is, where Nova says so; user_id likewise.
    """

    id: str
    name: str
    vcpus: int
    memory: int
    os_type: str
    architecture: str
    disks: tuple[str, ...]
    empty_drives: tuple[str, ...]
    interfaces: tuple[Interface, ...]
    display_name: str
    flavor: Mapping[str, Any] | None = None
    image: str | None = None
    project_id: str | None = None
    user_id: str | None = None

    @property
    def devices(self) -> frozenset[str]:
        """The names of all disks, drives and interfaces."""
        names = (interface.name for interface in self.interfaces)
        return frozenset((*self.disks, *self.empty_drives, *names))


def describe(text: str) -> Description:
    """Return what the XML of a domain tells.

    Args:
        text: as libvirt writes it: memory in KiB, and every domain with a name and a UUID.

    Raises:
        xml.etree.ElementTree.ParseError, ValueError: it is not such a text.

    Example:
        >>> found = describe('''
        ...     <domain type="test"><name>one</name>
        ...     <uuid>6695eb01-f6a4-8304-79aa-97f2502e193f</uuid>
        ...     <currentMemory unit="KiB">2097152</currentMemory><vcpu>2</vcpu>
        ...     <os><type arch="x86_64">hvm</type></os>
        ...     <devices><disk><source file="/d"/><target dev="vda"/></disk></devices></domain>''')
        >>> found.name, found.vcpus, found.memory, found.disks
        ('one', 2, 2097152, ('vda',))
    """
    domain = bounded_xml.parsed(text)
    id_, name = _text(domain, "uuid"), _text(domain, "name")
    if not (id_ and name):
        raise ValueError("this XML is not a libvirt domain's: it tells no name or no UUID")
    vcpu = domain.find("vcpu")
    current = None if vcpu is None else vcpu.get("current")
    kind = domain.find("os/type")
    drives = {
        target.get("dev", ""): disk.find("source") is not None
        for disk in domain.iterfind("devices/disk")
        if (target := disk.find("target")) is not None
    }
    return Description(
        id=id_,
        name=name,
        vcpus=int(current or _text(domain, "vcpu") or 1),
        memory=int(_text(domain, "currentMemory") or _text(domain, "memory") or 0),
        os_type=_text(domain, "os/type"),
        architecture="" if kind is None else kind.get("arch", ""),
        disks=tuple(device for device, has_source in drives.items() if device and has_source),
        empty_drives=tuple(device for device, has_source in drives.items() if not has_source),
        interfaces=tuple(filter(None, map(_interface, domain.iterfind("devices/interface")))),
        **_of_nova(domain, name),
    )


def metadata(
    description: Description, state: int, *, host: str, **further: Any
) -> Mapping[str, Any]:
    """Return what a sample of an instance says beside, under Ceilometer's names.

    Args:
        description: of the instance.
        state: libvirt's number of its state.
        host: the name of the hypervisor's host.
        further: what is to be said of the part that was measured.

    Returns:
        JSON types. ``host`` is that of Nova's API, a hash of project and host, where the project
        is known; the host's name is ``instance_host``.
    """
    power_state, status = _STATES.get(state, ("pending", "unknown"))
    flavor, project = description.flavor, description.project_id
    found: dict[str, Any] = {
        "display_name": description.display_name,
        "name": description.name,
        "instance_id": description.id,
        "instance_type": None if flavor is None else flavor["name"],
        "host": host if project is None else _nova_host_id(project, host),
        "instance_host": host,
        "flavor": None if flavor is None else dict(flavor),
        "status": status,
        "state": power_state,
        "task_state": "",
        "image": None if description.image is None else {"id": description.image},
        "image_ref": description.image,
        "image_ref_url": None,
        "architecture": description.architecture,
        "os_type": description.os_type,
        "vcpus": description.vcpus,
        "memory_mb": description.memory // 1024,
    }
    if flavor is not None:
        root, ephemeral = flavor.get("disk"), flavor.get("ephemeral")
        found["vcpus"] = flavor.get("vcpus", found["vcpus"])
        found["memory_mb"] = flavor.get("ram", found["memory_mb"])
        found["root_gb"], found["ephemeral_gb"] = root, ephemeral
        found["disk_gb"] = None if root is None else root + (ephemeral or 0)
    return MappingProxyType(found | further)


def _nova_host_id(project: str, host: str) -> str:
    # Nova's API hides a host's name from the owner of an instance behind this.
    return hashlib.sha224((project + host).encode()).hexdigest()


def _text(element: ElementTree.Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _interface(element: ElementTree.Element) -> Interface | None:
    target, mac = element.find("target"), element.find("mac")
    if target is None or not target.get("dev"):
        return None  # not plugged, or a device that was passed through
    filter_ = element.find("filterref")
    return Interface(
        name=target.get("dev", ""),
        mac="" if mac is None else mac.get("address", ""),
        filter=None if filter_ is None else filter_.get("filter"),
        parameters={
            parameter.get("name", "").lower(): parameter.get("value", "")
            for parameter in element.iterfind("filterref/parameter")
        },
    )


def _of_nova(domain: ElementTree.Element, name: str) -> dict[str, Any]:
    """What Nova says of an instance; what it does not say is left out."""
    blocks = [
        element
        for element in domain.iterfind("metadata/*")
        if element.tag.startswith(_NOVA) and element.tag.endswith("}instance")
    ]
    if not blocks:
        return {"display_name": name}
    nova = blocks[-1]
    found: dict[str, Any] = {"display_name": _text(nova, "{*}name") or name}
    for key, path in (("project_id", "{*}owner/{*}project"), ("user_id", "{*}owner/{*}user")):
        element = nova.find(path)
        if element is not None and element.get("uuid"):
            found[key] = element.get("uuid")
    root = nova.find("{*}root")
    if root is not None and root.get("type") == "image":
        found["image"] = root.get("uuid")
    flavor = nova.find("{*}flavor")
    if flavor is not None:
        told: dict[str, Any] = {"name": flavor.get("name", "")}
        if flavor.get("id"):
            told["id"] = flavor.get("id")
        for element_name, key in (_FLAVOR | {"swap": "swap"}).items():
            number = _text(flavor, f"{{*}}{element_name}")
            if number.isascii() and number.isdigit():
                told[key] = int(number)
        found["flavor"] = MappingProxyType(told)
    return found
