"""Pollsters that measure this machine: its processors, disks, interfaces, processes and the like.

Meters are cumulative wherever the machine itself counts: such a volume needs no memory, so that
it does not matter who took the sample before. Where a meter is a share of time (``%``), every
member keeps the readings of the whole machine, its own share or not, and can tell it for a
resource that it gained just now. What a pollster is
stands in :mod:`hashring.telemetry.plugin`. This module knows no member, window or sink.

Names, units and types are those of Ceilometer's documentation ("SNMP based meters", and
``compute.node.cpu.*`` for processor times) where it has them. One departs:
``hardware.disk.read.bytes`` and its three siblings count since boot, yet are a gauge there; here
they are cumulative.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import TypeVar

from hashring import clock
from hashring.telemetry.errors import Gone
from hashring.telemetry.model.resource import Resource
from hashring.telemetry.model.sample import Measurement, Meter, MeterType
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.plugin.pollster import Pollster
from hashring.telemetry.sources.host import machine
from hashring.telemetry.sources.host.machine import CPUTimes, DiskCounters, InterfaceCounters

__all__ = [
    "CPUHistory",
    "DiskPollster",
    "FilesystemPollster",
    "HostPollster",
    "InterfacePollster",
    "Pollster",
    "ProcessPollster",
    "ProcessorPollster",
]

_GAUGE, _CUMULATIVE = MeterType.GAUGE, MeterType.CUMULATIVE
_KB = 1024
_NANOSECONDS = 1_000_000_000

_Counters = TypeVar("_Counters")


class CPUHistory:
    """The processors' times at some moments of the last minute: what a share of time needs.

    A share is told from the newest reading that is at least ``span`` seconds older than the one
    of now, else from the oldest: over a few milliseconds a processor is either busy or not.

    Args:
        span: seconds.

    Example:
        >>> history = CPUHistory(span=0.5)
        >>> history.add(10.0, {"cpu0": CPUTimes(user=1, kernel=0, idle=9, iowait=0)})
        >>> history.util("cpu0") is None
        True
        >>> history.add(11.0, {"cpu0": CPUTimes(user=1.25, kernel=0, idle=9.75, iowait=0)})
        >>> history.util("cpu0")
        25.0
    """

    _KEPT = 16

    def __init__(self, span: float = 0.5) -> None:
        self._span = span
        self._readings: deque[tuple[float, Mapping[str, CPUTimes]]] = deque(maxlen=self._KEPT)

    def add(self, now: float, times: Mapping[str, CPUTimes]) -> None:
        """Add a reading that was taken at ``now``, in seconds on a clock that never steps."""
        self._readings.append((now, times))

    @property
    def newest(self) -> Mapping[str, CPUTimes]:
        """The newest reading; empty where there is none."""
        return self._readings[-1][1] if self._readings else {}

    def util(self, *names: str) -> float | None:
        """Return the busy share of these processors' time in percent, 0 to 100.

        Returns:
            ``None`` where it cannot be told: no time has passed since the first reading, or a
            processor has not been there since.

        Raises:
            Gone: a processor is no longer there.
        """
        now, newest = self._readings[-1]
        if not all(name in newest for name in names):
            raise Gone(f"of {', '.join(names)} some are gone")
        earlier = [reading for reading in self._readings if now - reading[0] >= self._span]
        before = (earlier[-1] if earlier else self._readings[0])[1]
        if not all(name in before for name in names):
            return None
        total = sum(newest[name].total - before[name].total for name in names)
        idle = sum(newest[name].idle - before[name].idle for name in names)
        if total <= 0:
            return None
        # The kernel's count of idle time can step back by a tick.
        return min(100.0, max(0.0, 100.0 * (1 - idle / total)))


def _reading(found: Mapping[str, _Counters], resource: Resource) -> _Counters:
    try:
        return found[resource.name]
    except KeyError:
        raise Gone(f"{resource.kind} {resource.name} is gone") from None


class _CPUPollster(Pollster):
    """Keeps the history of all processors, so that a share of time can be told of any."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._history = CPUHistory()
        self.observe()

    def observe(self) -> None:
        """Read the processors' times."""
        self._history.add(clock.boottime(), machine.cpu_times())


class HostPollster(_CPUPollster):
    """Load, processor share and memory of the whole host."""

    LOAD = tuple(
        Meter(f"hardware.cpu.load.{minutes}min", _GAUGE, "process") for minutes in (1, 5, 15)
    )
    UTIL = Meter("hardware.cpu.util", _GAUGE, "%")
    IDLE = Meter("hardware.system_stats.cpu.idle", _GAUGE, "%")
    MEMORY = tuple(
        Meter(f"hardware.memory.{name}", _GAUGE, "KB")
        for name in ("total", "used", "buffer", "cached", "swap.total", "swap.avail")
    )

    kinds = frozenset({"host"})
    default_discovery = "host"
    meters = (*LOAD, UTIL, IDLE, *MEMORY)

    def poll(self, resource: Resource) -> Iterable[Measurement]:
        """Measure the host."""
        yield from map(Measurement, self.LOAD, machine.load_average())
        util = self._history.util(*self._history.newest)
        if util is not None:
            yield Measurement(self.UTIL, util)
            yield Measurement(self.IDLE, 100.0 - util)
        for meter, volume in zip(self.MEMORY, machine.memory(), strict=True):
            yield Measurement(meter, volume // _KB)


class ProcessorPollster(_CPUPollster):
    """Share and times of each processor."""

    UTIL = Meter("hardware.cpu.util", _GAUGE, "%")
    TIMES = tuple(
        Meter(f"compute.node.cpu.{name}.time", _CUMULATIVE, "ns")
        for name in ("user", "kernel", "idle", "iowait")
    )

    kinds = frozenset({"processor"})
    default_discovery = "processor"
    meters = (UTIL, *TIMES)

    def poll(self, resource: Resource) -> Iterable[Measurement]:
        """Measure one processor."""
        times = _reading(self._history.newest, resource)
        util = self._history.util(resource.name)
        if util is not None:
            yield Measurement(self.UTIL, util)
        # psutil and Ceilometer count the wait for I/O beside idle, not within it.
        volumes = (times.user, times.kernel, times.idle - times.iowait, times.iowait)
        for meter, seconds in zip(self.TIMES, volumes, strict=True):
            yield Measurement(meter, round(seconds * _NANOSECONDS))


class DiskPollster(Pollster):
    """Traffic of each block device and partition."""

    COUNTERS = (
        Meter("hardware.disk.read.bytes", _CUMULATIVE, "B"),
        Meter("hardware.disk.write.bytes", _CUMULATIVE, "B"),
        Meter("hardware.disk.read.requests", _CUMULATIVE, "requests"),
        Meter("hardware.disk.write.requests", _CUMULATIVE, "requests"),
    )

    kinds = frozenset({"disk"})
    default_discovery = "disk"
    meters = COUNTERS

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._now: Mapping[str, DiskCounters] = {}

    def observe(self) -> None:
        """Read all disks' counters."""
        self._now = machine.disk_counters()

    def poll(self, resource: Resource) -> Iterable[Measurement]:
        """Measure one disk."""
        return map(Measurement, self.COUNTERS, _reading(self._now, resource))


class FilesystemPollster(Pollster):
    """Size and use of each mounted file system."""

    SIZES = (
        Meter("hardware.disk.size.total", _GAUGE, "KB"),
        Meter("hardware.disk.size.used", _GAUGE, "KB"),
    )

    kinds = frozenset({"filesystem"})
    default_discovery = "filesystem"
    meters = SIZES

    def poll(self, resource: Resource) -> Iterable[Measurement]:
        """Measure one file system."""
        usage = machine.filesystem_usage(resource.attributes["mountpoint"])
        for meter, volume in zip(self.SIZES, usage, strict=True):
            yield Measurement(meter, volume // _KB)


class InterfacePollster(Pollster):
    """Traffic of each network interface."""

    COUNTERS = tuple(
        Meter(f"hardware.network.{way}.{what}", _CUMULATIVE, "B" if what == "bytes" else "packet")
        for way in ("incoming", "outgoing")
        for what in ("bytes", "packets", "errors", "drop")
    )

    kinds = frozenset({"interface"})
    default_discovery = "interface"
    meters = COUNTERS

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._now: Mapping[str, InterfaceCounters] = {}

    def observe(self) -> None:
        """Read all interfaces' counters."""
        self._now = machine.interface_counters()

    def poll(self, resource: Resource) -> Iterable[Measurement]:
        """Measure one interface."""
        return map(Measurement, self.COUNTERS, _reading(self._now, resource))


class ProcessPollster(Pollster):
    """Processor time, memory and threads of each process.

    Ceilometer has no meters of a host's processes: the names follow those of its instances
    (``cpu``, ``memory.resident``), under ``process.``.
    """

    CPU = Meter("process.cpu", _CUMULATIVE, "ns")
    RESIDENT = Meter("process.memory.resident", _GAUGE, "KB")
    THREADS = Meter("process.threads", _GAUGE, "thread")

    kinds = frozenset({"process"})
    default_discovery = "process"
    meters = (CPU, RESIDENT, THREADS)

    def poll(self, resource: Resource) -> Iterable[Measurement]:
        """Measure one process."""
        attributes = resource.attributes
        usage = machine.process_usage(int(attributes["pid"]), int(attributes["start"]))
        yield Measurement(self.CPU, round(usage.cpu * _NANOSECONDS))
        yield Measurement(self.RESIDENT, usage.resident // _KB)
        yield Measurement(self.THREADS, usage.threads)
