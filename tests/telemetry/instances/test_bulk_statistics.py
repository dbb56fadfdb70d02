"""Statistics of many instances in one answer, as QEMU's driver gives them."""

import pytest

from hashring.telemetry.sources.libvirt import hypervisor as hypervisor_module
from hashring.telemetry.sources.libvirt.hypervisor import Hypervisor, devices
from hashring.telemetry.sources.libvirt.link import Link
from tests.servers.libvirt import (
    domain,
    instance_id,
    write_domains,
)
from tests.telemetry.instances.conftest import CEILOMETER, volumes

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
        monkeypatch.setattr(hypervisor_module, "_bulk", lambda _mask, _flags, _connection: told)
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
