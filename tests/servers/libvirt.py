"""libvirt for the tests: its built-in test hypervisor, in this process or behind a real daemon.

The test hypervisor is a part of libvirt itself: its instances exist only in memory, yet their
counters grow. ``test:///default`` is one for each process, which all its connections share, and
has one instance; ``test:///FILE`` is made from a file, anew for each connection::

    uri = write_domains(folder / "domains.xml", 500)  # 500 instances of Nova's kind

    with LibvirtServer() as server:  # libvirtd, with nothing in it but the test hypervisor
        connect(server.uri())  # what test:///default is within the daemon
        connect(server.uri(folder / "domains.xml"))
"""

from __future__ import annotations

import uuid
from pathlib import Path

import libvirt

from tests.servers.process import Server, program

DEFAULT_ID = "6695eb01-f6a4-8304-79aa-97f2502e193f"
"""The instance of ``test:///default``."""

PROJECT = "0ad4b518a108439080cd04d6e84c41c0"
USER = "61c26885878d4de8b25159cfb57f7c59"
IMAGE = "d5d6403a-63fe-4a70-96c5-fd7bb7b1dd8e"

_TEST = "http://libvirt.org/schemas/domain/test/1.0"


def instance_id(number: int) -> str:
    """Return the UUID of the instance of this number, the same in every run and process."""
    return str(uuid.UUID(int=0xA << 124 | 0x4 << 76 | 0x8 << 60 | number))


def domain(
    number: int,
    *,
    disks: int = 1,
    interfaces: int = 1,
    nova: bool = True,
    running: bool = True,
) -> str:
    """Return the XML of one domain, as Nova would write it or, without Nova, as a person.

    Args:
        number: from 1; name, UUID and the names of the interfaces follow from it.
        disks: how many; beside them there is always an empty CD-ROM drive.
        interfaces: how many.
        nova: with Nova's block of metadata.
        running: or shut off.
    """
    metadata = f"""
  <metadata>
    <nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1">
      <nova:package version="27.1.0"/>
      <nova:name>web-{number}</nova:name>
      <nova:creationTime>2026-01-31 10:00:00</nova:creationTime>
      <nova:flavor name="m1.small">
        <nova:memory>2048</nova:memory>
        <nova:disk>20</nova:disk>
        <nova:swap>512</nova:swap>
        <nova:ephemeral>5</nova:ephemeral>
        <nova:vcpus>2</nova:vcpus>
      </nova:flavor>
      <nova:owner>
        <nova:user uuid="{USER}">alice</nova:user>
        <nova:project uuid="{PROJECT}">shop</nova:project>
      </nova:owner>
      <nova:root type="image" uuid="{IMAGE}"/>
    </nova:instance>
  </metadata>"""
    drives = "".join(
        f"""
    <disk type="file" device="disk">
      <source file="/images/{number}-{letter}"/>
      <target dev="vd{letter}" bus="virtio"/>
    </disk>"""
        for letter in "abcdefgh"[:disks]
    )
    nics = "".join(
        f"""
    <interface type="bridge">
      <mac address="52:54:00:{nic:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"/>
      <source bridge="br-int"/>
      <target dev="tap{number:06x}-{nic}"/>
    </interface>"""
        for nic in range(interfaces)
    )
    # The test hypervisor's own element.
    runstate = 1 if running else 5
    state = f"""
  <test:runstate xmlns:test="{_TEST}">{runstate}</test:runstate>"""
    return f"""<domain type="test">
  <name>instance-{number:08x}</name>
  <uuid>{instance_id(number)}</uuid>{metadata if nova else ""}
  <memory unit="KiB">2097152</memory>
  <vcpu>2</vcpu>
  <os><type arch="x86_64">hvm</type></os>{state}
  <devices>{drives}
    <disk type="file" device="cdrom"><target dev="hda" bus="ide"/></disk>{nics}
  </devices>
</domain>
"""


def write_domains(
    path: Path, count: int, *, shut_off: int = 0, disks: int = 1, interfaces: int = 1
) -> str:
    """Write a hypervisor of Nova's instances to a file; return the URI that opens it.

    Args:
        path: the file.
        count: how many instances, numbered from 1: see :func:`domain`.
        shut_off: how many of them, the last ones, do not run.
        disks: of each; interfaces likewise.
    """
    domains = (
        domain(number, disks=disks, interfaces=interfaces, running=number <= count - shut_off)
        for number in range(1, count + 1)
    )
    path.write_text(f"<node>\n{''.join(domains)}</node>\n")
    return f"test://{path}"


class LibvirtServer(Server):
    """A ``libvirtd`` that serves the test hypervisor alone: it finds no other driver."""

    def __init__(self) -> None:
        super().__init__()
        self.socket = self.folder / "libvirt-sock"
        (self.folder / "drivers").mkdir()
        (self.folder / "libvirtd.conf").write_text(
            f'unix_sock_dir = "{self.folder}"\nauth_unix_ro = "none"\nauth_unix_rw = "none"\n'
        )

    def uri(self, path: Path | None = None) -> str:
        """Return the URI of ``test:///default`` in the daemon, or of a file that it reads."""
        return f"test+unix://{path or '/default'}?socket={self.socket}"

    def command(self) -> list[str]:
        self.socket.unlink(missing_ok=True)  # a daemon that was killed leaves it behind
        return [
            "env",
            f"LIBVIRT_DRIVER_DIR={self.folder / 'drivers'}",
            *(f"XDG_{name}={self.folder}" for name in ("RUNTIME_DIR", "CONFIG_HOME", "CACHE_HOME")),
            program("libvirtd", "libvirt-daemon"),
            *("--config", str(self.folder / "libvirtd.conf")),
            *("--pid-file", str(self.folder / "libvirtd.pid")),
        ]

    def ready(self) -> bool:
        if not self.socket.exists():
            return False
        libvirt.registerErrorHandler(lambda _context, _error: None, None)
        try:
            return bool(libvirt.openReadOnly(self.uri()).numOfDomains() > 0)
        except libvirt.libvirtError:
            return False
