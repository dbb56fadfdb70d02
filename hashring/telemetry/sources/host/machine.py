"""This machine, as psutil tells it: what there is, and the counters of it.

The only room that knows psutil. It decides what a resource's name is, because every member must
come to the same one; it knows nothing of meters, members or windows. Nothing here blocks or
remembers: two agents that ask at one moment are told the same.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hashring.errors import MissingDependency
from hashring.telemetry.errors import Gone

try:
    import psutil
except ImportError as error:  # pragma: no cover - the tests of the wheel run without psutil
    raise MissingDependency("the telemetry agent", "psutil", "telemetry") from error

__all__ = [
    "CPUTimes",
    "DiskCounters",
    "FilesystemUsage",
    "Gone",
    "InterfaceCounters",
    "Memory",
    "ProcessUsage",
    "cpu_times",
    "disk_counters",
    "filesystem_usage",
    "filesystems",
    "host_id",
    "interface_counters",
    "load_average",
    "memory",
    "process_usage",
    "processes",
]

_PSEUDO_DISKS = ("loop", "ram", "fd")
"""Linux makes these whether or not there is anything behind them."""


class CPUTimes(NamedTuple):
    """Seconds since boot that one processor spent; ``idle`` includes waiting for I/O."""

    user: float
    kernel: float
    idle: float
    iowait: float

    @property
    def total(self) -> float:
        """All of the time, in seconds."""
        return self.user + self.kernel + self.idle


class DiskCounters(NamedTuple):
    """Counters of one block device since boot."""

    read_bytes: int
    write_bytes: int
    read_requests: int
    write_requests: int


class FilesystemUsage(NamedTuple):
    """Bytes of one mounted file system."""

    total: int
    used: int


class InterfaceCounters(NamedTuple):
    """Counters of one network interface since boot."""

    incoming_bytes: int
    incoming_packets: int
    incoming_errors: int
    incoming_drop: int
    outgoing_bytes: int
    outgoing_packets: int
    outgoing_errors: int
    outgoing_drop: int


class Memory(NamedTuple):
    """Bytes of memory; ``buffer`` and ``cached`` are 0 where the platform has no such figure."""

    total: int
    used: int
    buffer: int
    cached: int
    swap_total: int
    swap_avail: int


class ProcessUsage(NamedTuple):
    """One process: seconds of processor time since its start, resident bytes, threads."""

    cpu: float
    resident: int
    threads: int


def _text(name: str) -> str:
    # Names of devices and mount points are bytes to the system; a key must be UTF-8.
    return name.encode("utf-8", "backslashreplace").decode()


def host_id() -> str:
    """Return this host's id: its name, as in Ceilometer.

    >>> bool(host_id())
    True
    """
    return _text(socket.gethostname()) or "localhost"


def cpu_times() -> dict[str, CPUTimes]:
    """Return the times of each processor by name (``"cpu0"``, ...), in one reading.

    >>> cpu_times()["cpu0"].total > 0
    True
    """
    return {
        f"cpu{number}": CPUTimes(
            # Linux counts a guest's time within user and nice, so these parts are the whole.
            user=times.user + getattr(times, "nice", 0.0),
            kernel=times.system
            + getattr(times, "irq", 0.0)
            + getattr(times, "softirq", 0.0)
            + getattr(times, "steal", 0.0),
            idle=times.idle + getattr(times, "iowait", 0.0),
            iowait=getattr(times, "iowait", 0.0),
        )
        for number, times in enumerate(psutil.cpu_times(percpu=True))
    }


def load_average() -> tuple[float, float, float]:
    """Return the mean number of runnable processes over 1, 5 and 15 minutes."""
    return psutil.getloadavg()


def memory() -> Memory:
    """Return the memory of the machine.

    >>> memory().total > 0
    True
    """
    physical, swap = psutil.virtual_memory(), psutil.swap_memory()
    return Memory(
        total=physical.total,
        used=physical.used,
        buffer=getattr(physical, "buffers", 0),
        cached=getattr(physical, "cached", 0),
        swap_total=swap.total,
        swap_avail=swap.free,
    )


def disk_counters() -> dict[str, DiskCounters]:
    """Return the counters of each block device and partition by name, in one reading."""
    # nowrap=False: psutil's correction of wrapped counters lives in one process's memory, so
    # two members would tell different volumes.
    found = psutil.disk_io_counters(perdisk=True, nowrap=False) or {}
    return {
        _text(name): DiskCounters(
            counters.read_bytes, counters.write_bytes, counters.read_count, counters.write_count
        )
        for name, counters in found.items()
        if not name.startswith(_PSEUDO_DISKS)
    }


def filesystems() -> dict[str, str]:
    """Return the mounted file systems that lie on a device: device -> mount point.

    A device that is mounted several times counts once, at its shortest mount point. The root is
    always among them, also where it lies on no device (in most containers) or is no mount (where
    the root was changed); then it counts as the kernel's own, ``rootfs``.

    >>> "/" in filesystems().values()
    True
    """
    mounts = psutil.disk_partitions(all=False)
    if not any(mount.mountpoint == "/" for mount in mounts):
        roots = [mount for mount in psutil.disk_partitions(all=True) if mount.mountpoint == "/"]
        mounts = [*mounts, *roots[-1:]]  # of several on top of one another the last is seen
    found = {} if any(mount.mountpoint == "/" for mount in mounts) else {"rootfs": "/"}
    for mount in sorted(mounts, key=lambda mount: (len(mount.mountpoint), mount.mountpoint)):
        found.setdefault(_text(mount.device), mount.mountpoint)
    return found


def filesystem_usage(mountpoint: str) -> FilesystemUsage:
    """Return what a file system holds.

    Raises:
        Gone: nothing is there any more.
    """
    try:
        usage = psutil.disk_usage(mountpoint)
    except FileNotFoundError:
        raise Gone(f"{mountpoint} is gone") from None
    return FilesystemUsage(usage.total, usage.used)


def interface_counters() -> dict[str, InterfaceCounters]:
    """Return the counters of each network interface by name, in one reading."""
    found = psutil.net_io_counters(pernic=True, nowrap=False) or {}
    return {
        _text(name): InterfaceCounters(
            incoming_bytes=counters.bytes_recv,
            incoming_packets=counters.packets_recv,
            incoming_errors=counters.errin,
            incoming_drop=counters.dropin,
            outgoing_bytes=counters.bytes_sent,
            outgoing_packets=counters.packets_sent,
            outgoing_errors=counters.errout,
            outgoing_drop=counters.dropout,
        )
        for name, counters in found.items()
    }


def processes() -> Iterator[tuple[int, int]]:
    """Iterate over the processes: pid and start.

    The start tells a process from a later one with its pid. It is a number of ticks since boot,
    not a wall-clock time: that one is computed from a boot time which moves when the clock is
    set, and two members would not agree on it.
    """
    for pid in psutil.pids():
        try:
            yield pid, _start(pid)
        except Gone:
            continue


def process_usage(pid: int, start: int) -> ProcessUsage:
    """Return what a process uses.

    Raises:
        Gone: it has ended; another process may have its pid.
        PermissionError: it may not be looked at.
    """
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            usage = ProcessUsage(
                cpu=times.user + times.system,
                resident=process.memory_info().rss,
                threads=process.num_threads(),
            )
    except (psutil.NoSuchProcess, ProcessLookupError):
        raise Gone(f"process {pid} has ended") from None
    except psutil.AccessDenied:
        raise PermissionError(f"process {pid} may not be looked at") from None
    # Asked last: had the pid been taken over meanwhile, the figures would be another's.
    if _start(pid) != start:
        raise Gone(f"process {pid} has ended; another one has its pid")
    return usage


if psutil.LINUX:

    def _start(pid: int) -> int:
        try:
            status = Path(psutil.PROCFS_PATH, str(pid), "stat").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            raise Gone(f"process {pid} has ended") from None
        # proc(5): the start is field 22. The name, field 2, may itself hold spaces and brackets.
        return int(status[status.rindex(b")") + 2 :].split()[19])

else:  # pragma: no cover - no other platform is tested

    def _start(pid: int) -> int:
        try:
            return round(psutil.Process(pid).create_time() * 1000)
        except psutil.Error:
            raise Gone(f"process {pid} has ended") from None
