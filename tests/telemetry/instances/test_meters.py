"""What is told of an instance, as Ceilometer tells it, on libvirt's test hypervisor."""

import json
import logging
import re
from pathlib import Path

import libvirt
import pytest

from hashring.telemetry.errors import Gone
from hashring.telemetry.model.sample import MeterType
from hashring.telemetry.sources.libvirt import domain as domain_module
from hashring.telemetry.sources.libvirt.hypervisor import Hypervisor
from hashring.telemetry.sources.libvirt.instances import (
    InstanceDiskPollster,
    InstancePollster,
)
from tests.servers.libvirt import (
    DEFAULT_ID,
    IMAGE,
    PROJECT,
    USER,
    domain,
    instance_id,
    write_domains,
)
from tests.telemetry.instances.conftest import CEILOMETER, POLLSTERS, instance, settings, volumes


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

        found = domain_module.describe(without)

        assert found.project_id == PROJECT
        assert "ephemeral" not in found.flavor  # not told is not zero
        assert found.flavor["disk"] == 20

    def test_an_instance_from_a_volume_has_no_image(self):
        text = domain(1).replace('root type="image"', 'root type="volume"')

        assert domain_module.describe(text).image is None

    def test_what_is_no_domain_is_refused(self):
        with pytest.raises(ValueError, match="not a libvirt domain's"):
            domain_module.describe("<network/>")


def test_the_page_lists_the_meters_that_there_are():
    page = (Path(__file__).parents[3] / "docs" / "agents" / "compute.md").read_text()
    told = re.findall(r"^\| `(\S+)` \| (\w+) \| (\S+) \| (\w+) \|", page, re.MULTILINE)

    of = {InstancePollster: "instance", InstanceDiskPollster: "disk"}
    assert sorted(told) == sorted(
        (meter.name, str(meter.type), meter.unit, of.get(pollster, "interface"))
        for pollster in POLLSTERS
        for meter in pollster.meters
    )
