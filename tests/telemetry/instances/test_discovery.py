"""Which instances an agent finds, and what it says where there is no hypervisor."""

import re
import sys

import pytest

from hashring.errors import BadArgument, MissingDependency
from hashring.telemetry.errors import HypervisorUnavailable
from hashring.telemetry.sources.libvirt.instances import (
    InstancePollster,
    LibvirtDiscovery,
)
from hashring.url import masked
from tests.servers.libvirt import (
    DEFAULT_ID,
    domain,
    instance_id,
    write_domains,
)
from tests.telemetry.instances.conftest import POLLSTERS, instance, settings


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
