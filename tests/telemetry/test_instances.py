"""The compute agent's rooms against real libvirt: its test hypervisor, and a real daemon."""

import json
import logging
import re
import subprocess
import sys
import threading
from pathlib import Path

import libvirt
import pytest

from hashring.errors import BadArgument, HashringError, MissingDependency
from hashring.telemetry.errors import Gone, HypervisorUnavailable
from hashring.telemetry.model.resource import Resource
from hashring.telemetry.model.sample import MeterType
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.sources.libvirt import domain as domain_room
from hashring.telemetry.sources.libvirt import hypervisor as hypervisor_room
from hashring.telemetry.sources.libvirt.hypervisor import Hypervisor, devices
from hashring.telemetry.sources.libvirt.instances import (
    InstanceDiskPollster,
    InstanceInterfacePollster,
    InstancePollster,
    LibvirtDiscovery,
)
from hashring.telemetry.sources.libvirt.link import Link
from hashring.url import masked
from tests.servers.libvirt import (
    DEFAULT_ID,
    IMAGE,
    PROJECT,
    USER,
    LibvirtServer,
    domain,
    instance_id,
    write_domains,
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

# What libvirt's QEMU driver tells in bulk of a running instance with a disk and an empty drive.
QEMU = {
    "state.state": 1,
    "state.reason": 5,
    "cpu.time": 95448760595,
    "cpu.user": 30790000000,
    "cpu.system": 1600000000,
    "balloon.current": 1048576,
    "balloon.maximum": 2097152,
    "balloon.swap_in": 4096,
    "balloon.swap_out": 2048,
    "balloon.unused": 524288,
    "balloon.available": 1017856,
    "balloon.usable": 768000,
    "balloon.last-update": 1690513108,
    "balloon.rss": 411648,
    "vcpu.current": 1,
    "vcpu.maximum": 2,
    "net.count": 1,
    "net.0.name": "tap000001-0",
    "net.0.rx.bytes": 2058,
    "net.0.rx.pkts": 39,
    "net.0.rx.errs": 1,
    "net.0.rx.drop": 2,
    "net.0.tx.bytes": 2928,
    "net.0.tx.pkts": 18,
    "net.0.tx.errs": 3,
    "net.0.tx.drop": 4,
    "block.count": 2,
    "block.0.name": "hda",
    "block.0.rd.reqs": 19,
    "block.0.rd.bytes": 410,
    "block.0.rd.times": 79869,
    "block.0.wr.reqs": 0,
    "block.0.wr.bytes": 0,
    "block.0.wr.times": 0,
    "block.1.name": "vda",
    "block.1.path": "/images/1-a",
    "block.1.rd.reqs": 1997,
    "block.1.rd.bytes": 40820736,
    "block.1.rd.times": 12570091638,
    "block.1.wr.reqs": 200,
    "block.1.wr.bytes": 555008,
    "block.1.wr.times": 1859711706,
    "block.1.fl.reqs": 33,
    "block.1.fl.times": 23235572,
    "block.1.allocation": 2097152,
    "block.1.capacity": 1073741824,
    "block.1.physical": 2101248,
}
# And of one that is shut off.
QEMU_OFF = {
    "state.state": 5,
    "state.reason": 2,
    "balloon.maximum": 2097152,
    "vcpu.current": 2,
    "vcpu.maximum": 2,
    "block.count": 1,
    "block.0.name": "vda",
    "block.0.path": "/images/1-a",
    "block.0.allocation": 2097152,
    "block.0.capacity": 1073741824,
    "block.0.physical": 2101248,
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


class TestMeters:
    def test_names_types_and_units_are_ceilometers(self):
        ours = {
            meter.name: (str(meter.type), meter.unit)
            for pollster in POLLSTERS
            for meter in pollster.meters
        }

        assert ours == CEILOMETER

    def test_each_meter_is_told_by_one_pollster(self):
        names = [meter.name for pollster in POLLSTERS for meter in pollster.meters]

        assert sorted(names) == sorted(set(names))

    def test_they_are_the_compute_agents(self):
        for pollster in POLLSTERS:
            assert pollster.namespaces == {"compute"}
            assert pollster.default_discovery == "local_instances"
            assert pollster.kinds == {"instance"}


class TestTheTestHypervisor:
    def test_a_running_instance_is_measured_by_all_that_this_driver_tells(self, poll):
        measured = poll("test:///default", DEFAULT_ID)

        told = {found.meter.name for found in measured}
        # It has no Nova, and counts no time of a disk's requests.
        assert told == CEILOMETER.keys() - {
            "disk.root.size",
            "disk.ephemeral.size",
            "disk.device.read.latency",
            "disk.device.write.latency",
        }

    def test_the_volumes_are_libvirts_in_ceilometers_units(self, poll):
        measured = poll("test:///default", DEFAULT_ID)

        found = volumes(measured)
        assert found["power.state"] == libvirt.VIR_DOMAIN_RUNNING
        assert found["vcpus"] == 2
        assert found["memory"] == 2048  # of 8 GiB that it could be given
        assert found["memory.usage"] == 1024
        assert found["memory.resident"] == 1024
        assert found["cpu"] > 0
        disk = volumes(measured, f"{DEFAULT_ID}-vda")
        assert disk["disk.device.capacity"] == 1099506450432
        assert disk["disk.device.read.bytes"] > 0

    def test_cumulative_meters_grow(self, poll):
        before = poll("test:///default", DEFAULT_ID)
        after = poll("test:///default", DEFAULT_ID)

        growing = [
            (earlier.volume, later.volume)
            for earlier, later in zip(before, after, strict=True)
            if later.meter.type is MeterType.CUMULATIVE
        ]
        assert len(growing) == 15
        assert all(earlier <= later for earlier, later in growing)
        assert any(earlier < later for earlier, later in growing)

    def test_a_paused_instance_still_tells_everything_but_its_state(self, poll, default):
        default.lookupByUUIDString(DEFAULT_ID).suspend()
        try:
            found = volumes(poll("test:///default", DEFAULT_ID))
        finally:
            default.lookupByUUIDString(DEFAULT_ID).resume()

        assert found["power.state"] == libvirt.VIR_DOMAIN_PAUSED
        assert "cpu" in found

    def test_one_that_is_shut_off_gives_the_meters_that_still_exist(self, poll, tmp_path, caplog):
        uri = write_domains(tmp_path / "domains.xml", 1, shut_off=1)

        with caplog.at_level(logging.WARNING):
            measured = poll(uri, instance_id(1))

        assert volumes(measured) == {
            "power.state": libvirt.VIR_DOMAIN_SHUTOFF,
            "vcpus": 2,
            "memory": 2048,
            "disk.root.size": 20,
            "disk.ephemeral.size": 5,
        }
        assert volumes(measured, f"{instance_id(1)}-vda").keys() == {
            "disk.device.capacity",
            "disk.device.allocation",
            "disk.device.usage",
        }
        assert {found.metadata["status"] for found in measured} == {"stopped"}
        assert not caplog.records

    def test_one_that_is_gone_is_gone(self, poll, default):
        default.defineXML(domain(7, running=False))
        assert poll("test:///default", instance_id(7))
        default.lookupByUUIDString(instance_id(7)).undefine()

        with pytest.raises(Gone):
            poll("test:///default", instance_id(7))

    @pytest.mark.parametrize("kind", POLLSTERS)
    def test_one_that_never_was_is_gone_for_each_pollster(self, kind):
        pollster = kind(settings("test:///default"))

        with pytest.raises(Gone):
            list(pollster.poll(instance(instance_id(999))))
        pollster.close()

    def test_what_a_driver_cannot_tell_is_said_once_and_not_as_a_fault(self, tmp_path, caplog):
        uri = write_domains(tmp_path / "domains.xml", 3)
        pollster = InstanceDiskPollster(settings(uri))

        with caplog.at_level(logging.DEBUG, "hashring.telemetry.sources.libvirt.hypervisor"):
            for number in (1, 2, 3, 1):
                list(pollster.poll(instance(instance_id(number))))
        pollster.close()

        [record] = [record for record in caplog.records if "latency" in record.getMessage()]
        assert record.levelno == logging.INFO
        assert uri in record.getMessage()

    def test_a_disk_that_is_pulled_out_costs_its_own_meters(self, default, caplog):
        default.createXML(domain(8, disks=2), 0)
        found = Hypervisor("test:///default", 10.0)
        assert found.disks(instance_id(8), {})[1].keys() == {"vda", "vdb"}
        default.lookupByUUIDString(instance_id(8)).destroy()
        default.createXML(domain(8, disks=1), 0)

        first = found.disks(instance_id(8), {})[1]  # by the description of before
        second = found.disks(instance_id(8), {})[1]

        default.lookupByUUIDString(instance_id(8)).destroy()
        found.close()
        assert first["vdb"] == {}
        assert first["vda"]["rd.bytes"] > 0
        assert second.keys() == {"vda"}
        assert [record.levelname for record in caplog.records].count("WARNING") == 2  # each cause

    def test_libvirt_prints_nothing_of_what_fails(self, poll, tmp_path, capfd):
        uri = write_domains(tmp_path / "domains.xml", 2, shut_off=1)
        for number in (1, 2):
            poll(uri, instance_id(number))
        with pytest.raises(Gone):
            poll(uri, instance_id(3))

        assert capfd.readouterr().err == ""


class TestIds:
    def test_are_built_as_ceilometer_builds_them(self, poll, tmp_path):
        uri = write_domains(tmp_path / "domains.xml", 2, disks=2, interfaces=2)
        measured = poll(uri, instance_id(2))

        by_meter = {}
        for found in measured:
            by_meter.setdefault(found.meter.name, []).append(found.resource_id)
        id_ = instance_id(2)
        assert by_meter["cpu"] == [None]  # the instance itself
        assert by_meter["disk.device.read.bytes"] == [f"{id_}-vda", f"{id_}-vdb"]
        assert by_meter["network.incoming.bytes"] == [
            f"instance-00000002-{id_}-tap000002-0",
            f"instance-00000002-{id_}-tap000002-1",
        ]

    def test_an_interface_bears_the_name_of_its_filter_where_that_is_its_own(self, default, poll):
        own = '<filterref filter="nova-instance-instance-00000009-fa163e64b690"/>'
        shared = '<filterref filter="clean-traffic"><parameter name="IP" value="10.0.0.9"/>'
        text = domain(9, interfaces=2)
        first, second = re.findall(r'<target dev="tap.*?/>', text)
        text = text.replace(first, first + own).replace(second, second + shared + "</filterref>")
        default.createXML(text, 0)
        try:
            measured = poll("test:///default", instance_id(9))
        finally:
            default.lookupByUUIDString(instance_id(9)).destroy()

        bytes_in = [found for found in measured if found.meter.name == "network.incoming.bytes"]
        assert [found.resource_id for found in bytes_in] == [
            "nova-instance-instance-00000009-fa163e64b690",
            f"instance-00000009-{instance_id(9)}-tap000009-1",
        ]
        assert bytes_in[1].metadata["parameters"] == {"ip": "10.0.0.9"}
        assert bytes_in[1].metadata["vnic_name"] == "tap000009-1"


class TestMetadata:
    def test_says_what_nova_says(self, poll, tmp_path):
        uri = write_domains(tmp_path / "domains.xml", 1)
        measured = poll(uri, instance_id(1))

        assert {(found.project_id, found.user_id) for found in measured} == {(PROJECT, USER)}
        [vcpus] = [found for found in measured if found.meter.name == "vcpus"]
        told = vcpus.metadata
        assert told["display_name"] == "web-1"
        assert told["name"] == "instance-00000001"
        assert told["instance_id"] == instance_id(1)
        assert told["instance_type"] == "m1.small"
        assert told["flavor"] == {
            "name": "m1.small",
            "ram": 2048,
            "vcpus": 2,
            "disk": 20,
            "ephemeral": 5,
            "swap": 512,
        }
        assert (told["root_gb"], told["ephemeral_gb"], told["disk_gb"]) == (20, 5, 25)
        assert (told["memory_mb"], told["vcpus"]) == (2048, 2)
        assert told["image"] == {"id": IMAGE}
        assert told["image_ref"] == IMAGE
        assert (told["status"], told["state"]) == ("active", "running")
        assert told["instance_host"] == "web1"
        assert re.fullmatch("[0-9a-f]{56}", told["host"])

    def test_of_a_part_says_which(self, poll, tmp_path):
        measured = poll(write_domains(tmp_path / "domains.xml", 1), instance_id(1))

        by_meter = {found.meter.name: found.metadata for found in measured}
        assert by_meter["cpu"]["cpu_number"] == 2
        assert by_meter["disk.device.usage"]["disk_name"] == "vda"
        assert by_meter["network.outgoing.bytes"]["vnic_name"] == "tap000001-0"
        assert by_meter["network.outgoing.bytes"]["mac"] == "52:54:00:00:00:01"

    def test_is_json(self, poll, tmp_path):
        for found in poll(write_domains(tmp_path / "domains.xml", 1), instance_id(1)):
            assert json.loads(json.dumps(dict(found.metadata))) == dict(found.metadata)

    def test_without_nova_it_says_what_libvirt_says(self, poll):
        [vcpus] = [
            found for found in poll("test:///default", DEFAULT_ID) if found.meter.name == "vcpus"
        ]

        assert vcpus.project_id is None
        assert vcpus.metadata["display_name"] == "test"
        assert vcpus.metadata["flavor"] is None
        assert vcpus.metadata["memory_mb"] == 2048
        assert vcpus.metadata["host"] == "web1"

    def test_on_a_shared_connection_the_host_is_the_hypervisors(self, poll, default):
        measured = poll("test:///default", DEFAULT_ID, workload_partitioning=True)

        assert {found.metadata["instance_host"] for found in measured} == {default.getHostname()}

    def test_of_an_older_nova_is_read_too(self):
        text = domain(1).replace("libvirt/nova/1.1", "libvirt/nova/1.0")
        without = re.sub("<nova:ephemeral>.*?</nova:ephemeral>", "", text)

        found = domain_room.describe(without)

        assert found.project_id == PROJECT
        assert "ephemeral" not in found.flavor  # not told is not zero
        assert found.flavor["disk"] == 20

    def test_an_instance_from_a_volume_has_no_image(self):
        text = domain(1).replace('root type="image"', 'root type="volume"')

        assert domain_room.describe(text).image is None

    def test_what_is_no_domain_is_refused(self):
        with pytest.raises(ValueError, match="not a libvirt domain's"):
            domain_room.describe("<network/>")


class TestBulkStatistics:
    """The test hypervisor tells only states in bulk, QEMU's everything: by recorded values."""

    @pytest.fixture
    def qemu(self, tmp_path, monkeypatch):
        def recorded(told):
            monkeypatch.setattr(Hypervisor, "statistics", lambda _, __: {instance_id(1): told})
            return write_domains(tmp_path / "domains.xml", 1, shut_off=told is QEMU_OFF)

        return recorded

    def test_serve_every_meter(self, qemu, poll):
        uri = qemu(QEMU)
        measured = poll(uri, instance_id(1))

        assert {found.meter.name for found in measured} == CEILOMETER.keys()
        assert volumes(measured) == {
            "power.state": 1,
            "vcpus": 1,
            "memory": 1024,
            "disk.root.size": 20,
            "disk.ephemeral.size": 5,
            "cpu": 95448760595,
            "memory.usage": (1017856 - 768000) / 1024,
            "memory.resident": 402,
            "memory.swap.in": 4,
            "memory.swap.out": 2,
        }
        assert volumes(measured, f"{instance_id(1)}-vda") == {
            "disk.device.read.bytes": 40820736,
            "disk.device.read.requests": 1997,
            "disk.device.read.latency": 12570091638,
            "disk.device.write.bytes": 555008,
            "disk.device.write.requests": 200,
            "disk.device.write.latency": 1859711706,
            "disk.device.capacity": 1073741824,
            "disk.device.allocation": 2097152,
            "disk.device.usage": 2101248,
        }
        assert volumes(measured, f"instance-00000001-{instance_id(1)}-tap000001-0") == {
            "network.incoming.bytes": 2058,
            "network.incoming.packets": 39,
            "network.incoming.packets.drop": 2,
            "network.incoming.packets.error": 1,
            "network.outgoing.bytes": 2928,
            "network.outgoing.packets": 18,
            "network.outgoing.packets.drop": 4,
            "network.outgoing.packets.error": 3,
        }

    def test_an_empty_drive_is_no_disk(self, qemu, poll):
        ids = {found.resource_id for found in poll(qemu(QEMU), instance_id(1))}

        assert f"{instance_id(1)}-hda" not in ids

    def test_of_one_that_is_shut_off_serve_the_rest(self, qemu, poll):
        measured = poll(qemu(QEMU_OFF), instance_id(1))

        assert volumes(measured)["vcpus"] == 2
        assert volumes(measured)["memory"] == 2048
        assert "cpu" not in volumes(measured)
        assert volumes(measured, f"{instance_id(1)}-vda") == {
            "disk.device.capacity": 1073741824,
            "disk.device.allocation": 2097152,
            "disk.device.usage": 2101248,
        }

    def test_leave_nothing_to_be_asked_but_the_xml_and_that_only_once(self, tmp_path, monkeypatch):
        found = Hypervisor(write_domains(tmp_path / "domains.xml", 1), 10.0)
        id_ = instance_id(1)
        found.description(id_)
        monkeypatch.setattr(Link, "ask", lambda _link, _question: pytest.fail("asked"))

        assert found.instance(id_, QEMU)["cpu.time"] == QEMU["cpu.time"]
        assert found.disks(id_, QEMU)[1].keys() == {"vda"}
        assert found.interfaces(id_, QEMU)[1].keys() == {"tap000001-0"}

    def test_what_is_negative_is_not_counted_by_the_driver(self, qemu, poll):
        measured = poll(qemu(QEMU | {"net.0.rx.drop": -1}), instance_id(1))

        names = {found.meter.name for found in measured}
        assert "network.incoming.packets.drop" not in names
        assert "network.incoming.packets" in names

    def test_a_guest_that_does_not_tell_what_is_usable_tells_what_is_unused(self, qemu, poll):
        told = {name: value for name, value in QEMU.items() if name != "balloon.usable"}
        measured = poll(qemu(told), instance_id(1))

        assert volumes(measured)["memory.usage"] == (1017856 - 524288) / 1024

    def test_of_an_instance_that_was_too_busy_are_asked_for_one_by_one(self, qemu, poll):
        busy = {"state.state": 1, "vcpu.current": 2, "block.count": 1, "block.0.name": "vda"}
        measured = poll(qemu(busy), instance_id(1))

        assert "cpu" in volumes(measured)
        assert "disk.device.read.bytes" in volumes(measured, f"{instance_id(1)}-vda")

    def test_of_one_that_is_too_busy_among_others_leave_its_meters_out(self, tmp_path, monkeypatch):
        busy = {"state.state": 1, "vcpu.current": 2, "block.count": 1, "block.0.name": "vda"}
        told = {instance_id(1): QEMU, instance_id(2): busy}
        monkeypatch.setattr(hypervisor_room, "_bulk", lambda _mask, _flags, _connection: told)
        found = Hypervisor(write_domains(tmp_path / "domains.xml", 2), 10.0)
        for group in ("instance", "block", "net"):
            assert found.statistics(group) == told

        # The test hypervisor would tell, were it asked.
        assert found.instance(instance_id(2), busy) == busy
        assert found.disks(instance_id(2), busy) == (1, {"vda": {}})
        assert found.interfaces(instance_id(2), busy) == (1, {"tap000002-0": {}})
        found.close()

    def test_a_device_that_they_name_and_the_xml_did_not_is_looked_up(self, default):
        default.createXML(domain(8, interfaces=1), 0)
        found = Hypervisor("test:///default", 10.0)
        assert [nic.name for nic in found.description(instance_id(8)).interfaces] == ["tap000008-0"]
        default.lookupByUUIDString(instance_id(8)).destroy()
        default.createXML(domain(8, interfaces=2), 0)

        _, told = found.interfaces(
            instance_id(8), {"state.state": 1, "net.0.name": "tap000008-1", "net.0.rx.bytes": 5}
        )

        default.lookupByUUIDString(instance_id(8)).destroy()
        found.close()
        assert told["tap000008-1"] == {"rx.bytes": 5}
        assert told["tap000008-0"]["rx.bytes"] > 0

    def test_devices_without_a_name_are_left_out(self):
        assert (
            devices({"block.count": 1, "block.0.path": "/x", "blocks.0.name": "y"}, "block") == {}
        )


class TestDiscovery:
    def test_finds_every_instance_running_or_not_by_its_uuid(self, tmp_path):
        uri = write_domains(tmp_path / "domains.xml", 20, shut_off=5)
        found = LibvirtDiscovery(settings(uri)).discover()

        assert [resource.id for resource in found] == [instance_id(n) for n in range(1, 21)]
        assert {resource.kind for resource in found} == {"instance"}
        assert found[0].name == "instance-00000001"

    def test_returns_the_very_same_while_nothing_changes(self, default):
        discovery = LibvirtDiscovery(settings("test:///default"))
        before = discovery.discover()
        assert discovery.discover() is before

        default.defineXML(domain(1, running=False))
        after = discovery.discover()
        default.lookupByUUIDString(instance_id(1)).undefine()

        assert {resource.id for resource in after} == {DEFAULT_ID, instance_id(1)}
        assert discovery.discover() == before

    def test_agents_of_different_hypervisors_share_no_group(self):
        scopes = {
            LibvirtDiscovery(
                settings(f"qemu+ssh://{host}/system", workload_partitioning=True)
            ).scope
            for host in ("kvm1", "kvm2", "kvm1")
        }

        assert len(scopes) == 2
        assert "" not in scopes
        assert LibvirtDiscovery(settings("test:///default")).scope == ""

    def test_is_local_unless_the_workload_is_partitioned(self):
        assert LibvirtDiscovery(settings("test:///default")).is_local
        assert not LibvirtDiscovery(
            settings("test:///default", workload_partitioning=True)
        ).is_local

    @pytest.mark.parametrize(
        ("uri", "shared"),
        [
            ("", False),
            ("qemu:///system", False),
            ("qemu+unix:///system?socket=/run/libvirt/other-sock", False),
            ("qemu+ssh://root@localhost/system", False),
            ("qemu+tls://[::1]/system", False),
            ("qemu+tls://hv7.example/system", True),
            ("qemu+ssh://agent@10.0.0.7:2222/system", True),
            ("test:///default", True),
            ("test+unix:///default?socket=/tmp/sock", True),
        ],
    )
    def test_what_a_host_alone_can_see_stays_its_own(self, uri, shared):
        assert LibvirtDiscovery(settings(uri)).is_local
        assert LibvirtDiscovery(settings(uri, workload_partitioning=True)).is_local != shared

    def test_agents_of_several_hosts_find_the_same(self, tmp_path):
        uri = write_domains(tmp_path / "domains.xml", 10)
        one, other = (
            LibvirtDiscovery(settings(uri, host=host, workload_partitioning=True)).discover()
            for host in ("web1", "web2")
        )

        assert one == other

    def test_takes_no_parameter(self):
        with pytest.raises(BadArgument, match=r"'qemu:///system'.*libvirt_uri"):
            LibvirtDiscovery(settings("test:///default")).discover("qemu:///system")


class TestWithoutHypervisor:
    @pytest.mark.parametrize("kind", [LibvirtDiscovery, *POLLSTERS])
    def test_a_missing_binding_is_named_with_what_to_do(self, kind, monkeypatch):
        monkeypatch.setitem(sys.modules, "libvirt", None)

        with pytest.raises(MissingDependency) as caught:
            kind(settings("test:///missing"))
        assert "pip install 'hashring-ha[libvirt]'" in str(caught.value)
        assert "apt install libvirt-dev pkg-config" in str(caught.value)
        assert caught.value.extra == "libvirt"

    @pytest.mark.parametrize(
        "uri",
        [
            "test:///no/such/file.xml",
            "nosuch:///system",
            "test+unix:///default?socket=/no",
            "test+tls://[::1/default",
        ],
    )
    def test_a_uri_that_cannot_be_opened_is_named(self, uri, capfd):
        with pytest.raises(HypervisorUnavailable, match=re.escape(repr(masked(uri)))):
            LibvirtDiscovery(settings(uri)).discover()
        # The driver's own XML reader may warn of a file; libvirt's error handler does not.
        assert "libvirt:" not in capfd.readouterr().err

    def test_a_password_in_it_is_not_shown(self):
        uri = "test+tcp://alice:secret@127.0.0.1:1/default"
        with pytest.raises(HypervisorUnavailable) as caught:
            LibvirtDiscovery(settings(uri)).discover()

        assert "secret" not in str(caught.value)
        assert "alice:***@" in str(caught.value)

    def test_it_is_tried_again_in_the_next_cycle(self, tmp_path, monkeypatch):
        monkeypatch.setattr("hashring.telemetry.sources.libvirt.link._RETRY", 0.0)
        discovery = LibvirtDiscovery(settings(f"test://{tmp_path / 'domains.xml'}"))
        with pytest.raises(HypervisorUnavailable):
            discovery.discover()
        write_domains(tmp_path / "domains.xml", 2)

        assert len(discovery.discover()) == 2

    def test_the_polls_of_a_cycle_do_not_each_try(self, tmp_path, monkeypatch):
        monkeypatch.setattr("hashring.telemetry.sources.libvirt.link._RETRY", 3600.0)
        pollster = InstancePollster(settings(f"test://{tmp_path / 'domains.xml'}"))
        with pytest.raises(HypervisorUnavailable):
            pollster.observe()
        write_domains(tmp_path / "domains.xml", 1)

        with pytest.raises(HypervisorUnavailable):
            list(pollster.poll(instance(instance_id(1))))
        pollster.close()


def test_a_question_that_hangs_costs_those_after_it_one_timeout(until):
    before = connections()
    link = Link("test:///default", timeout=0.3)
    answer = threading.Event()

    with pytest.raises(HypervisorUnavailable, match=r"not answered within 0\.3 s"):
        link.ask(lambda _: answer.wait())

    assert link.ask(lambda connection: connection.numOfDomains()) == 1  # on another connection
    assert len(connections() - before) == 2
    answer.set()
    link.close()
    until(lambda: connections() <= before, "both threads have ended")


def test_a_question_behind_one_that_hangs_is_given_up_too_and_the_next_is_answered():
    link = Link("test:///default", timeout=0.3)
    answer, asked = threading.Event(), threading.Event()

    def hang(_connection):
        asked.set()
        answer.wait()

    def first():
        with pytest.raises(HypervisorUnavailable):
            link.ask(hang)

    waiting = threading.Thread(target=first)
    waiting.start()
    asked.wait()
    with pytest.raises(HypervisorUnavailable):
        link.ask(lambda connection: connection.numOfDomains())

    assert link.ask(lambda connection: connection.numOfDomains()) == 1
    answer.set()
    waiting.join()
    link.close()


def connections():
    return {thread for thread in threading.enumerate() if thread.name == "libvirt-connection"}


class TestADaemon:
    @pytest.fixture
    def server(self):
        with LibvirtServer() as server:
            yield server

    def test_is_polled_as_the_hypervisor_itself(self, server, poll, tmp_path):
        write_domains(tmp_path / "domains.xml", 3)
        uri = server.uri(tmp_path / "domains.xml")

        assert len(LibvirtDiscovery(settings(uri)).discover()) == 3
        there = poll(uri, instance_id(3))
        here = poll(f"test://{tmp_path / 'domains.xml'}", instance_id(3))
        assert [(found.meter, found.resource_id) for found in there] == [
            (found.meter, found.resource_id) for found in here
        ]

    def test_one_connection_serves_the_discovery_and_all_pollsters(self, server, monkeypatch):
        opened = []
        really = libvirt.openReadOnly
        monkeypatch.setattr(libvirt, "openReadOnly", lambda uri: opened.append(uri) or really(uri))
        discovery = LibvirtDiscovery(settings(server.uri()))
        pollsters = [kind(settings(server.uri())) for kind in POLLSTERS]

        threads = [threading.Thread(target=pollster.observe) for pollster in pollsters]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        discovery.discover()
        for pollster in pollsters:
            list(pollster.poll(instance(DEFAULT_ID)))
            pollster.close()

        assert opened == [server.uri()]

    def test_that_is_restarted_is_connected_to_again(self, server, poll, until):
        before = poll(server.uri(), DEFAULT_ID)
        server.kill()
        server.start()

        def polled():
            try:
                return poll(server.uri(), DEFAULT_ID)
            except HashringError:  # the first question may be the one that notices
                return None

        after = until(polled, "the daemon is polled again")
        assert {found.meter for found in after} == {found.meter for found in before}

    def test_that_is_away_is_said_to_be(self, server, poll):
        poll(server.uri(), DEFAULT_ID)
        server.stop()

        with pytest.raises(HypervisorUnavailable, match=re.escape(repr(server.uri()))):
            poll(server.uri(), DEFAULT_ID)

    def test_that_hangs_costs_a_call_its_time_and_no_more(self, server, until):
        hypervisor = Hypervisor(server.uri(), timeout=2.0)
        hypervisor.instances()

        server.pause()
        with pytest.raises(HypervisorUnavailable):
            hypervisor.instances()
        server.resume()

        def listed():
            try:
                return hypervisor.instances()
            except HypervisorUnavailable:
                return None

        assert DEFAULT_ID in until(listed, "the daemon answers again")
        hypervisor.close()

    def test_that_hangs_when_it_is_connected_to_holds_nobody_up(self, server, until):
        server.pause()
        before = connections()
        hypervisor = Hypervisor(server.uri(), timeout=0.5)
        for _ in range(3):
            with pytest.raises(HypervisorUnavailable, match=r"not answered within 0\.5 s"):
                hypervisor.instances()
        assert len(connections() - before) == 1  # all wait for the same attempt
        server.resume()

        def listed():
            try:
                return hypervisor.instances()
            except HypervisorUnavailable:
                return None

        assert DEFAULT_ID in until(listed, "the daemon answers")
        hypervisor.close()
        until(lambda: connections() <= before, "the thread has ended")

    def test_that_dies_under_many_threads_fails_their_polls_and_nothing_else(self, server, until):
        # libvirt's client before 10.4 crashed here, were its connection used by two at once.
        pollster = InstanceDiskPollster(settings(server.uri(), poll_timeout=5.0))
        stopping, polled, strange = threading.Event(), [], []

        def work():
            while not stopping.is_set():
                try:
                    polled.append(len(list(pollster.poll(instance(DEFAULT_ID)))))
                except HypervisorUnavailable:
                    pass
                except Exception as error:
                    strange.append(error)
                    return

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for _ in range(4):
            before = len(polled)
            until(lambda before=before: len(polled) > before + 50, "they are polling")
            server.kill()
            server.start()
        stopping.set()
        for thread in threads:
            thread.join()
        pollster.close()

        assert not strange
        assert set(polled) == {7}  # a poll tells all or nothing

    def test_the_last_pollster_to_close_closes_the_connection(self, server, until):
        before = connections()
        pollsters = [kind(settings(server.uri())) for kind in POLLSTERS]
        for pollster in pollsters:
            pollster.observe()
        for pollster in pollsters[:-1]:
            pollster.close()
        pollsters[-1].observe()  # still open for who is left
        assert len(connections() - before) == 1

        pollsters[-1].close()

        until(lambda: connections() <= before, "its thread has ended")

    def test_a_forgotten_hypervisor_closes_itself(self, server, until):
        before = connections()
        discovery = LibvirtDiscovery(settings(server.uri()))
        discovery.discover()
        assert len(connections() - before) == 1

        del discovery

        until(lambda: connections() <= before, "its thread has ended")

    def test_no_thread_outlives_the_last_connection(self, server):
        program = f"""
import threading, time
from hashring.telemetry.sources.libvirt.hypervisor import Hypervisor
for _ in range(3):
    hypervisor = Hypervisor({server.uri()!r}, timeout=5.0)
    hypervisor.instances()
    assert len(threading.enumerate()) == 3
    hypervisor.close()
    deadline = time.monotonic() + 20
    while len(threading.enumerate()) > 1:
        assert time.monotonic() < deadline, threading.enumerate()
        time.sleep(0.01)
"""
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
        )

        assert done.returncode == 0, done.stderr
        assert done.stderr == ""

    def test_can_be_asked_again_after_it_was_closed(self, server):
        hypervisor = Hypervisor(server.uri(), timeout=5.0)
        hypervisor.instances()
        hypervisor.close()

        assert hypervisor.instances() == {DEFAULT_ID: "test"}
        hypervisor.close()


def test_hypervisors_are_shared_by_uri_and_forgotten_with_their_last_user():
    one = hypervisor_room.shared("test:///default", 3.0)

    assert hypervisor_room.shared("test:///default", 3.0) is one
    assert hypervisor_room.shared("test:///default", 4.0) is not one


def test_the_page_lists_the_meters_that_there_are():
    page = (Path(__file__).parents[2] / "docs" / "agents" / "compute.md").read_text()
    told = re.findall(r"^\| `(\S+)` \| (\w+) \| (\S+) \| (\w+) \|", page, re.MULTILINE)

    of = {InstancePollster: "instance", InstanceDiskPollster: "disk"}
    assert sorted(told) == sorted(
        (meter.name, str(meter.type), meter.unit, of.get(pollster, "interface"))
        for pollster in POLLSTERS
        for meter in pollster.meters
    )
