"""Hypervisor: the instances that libvirt knows, and its statistics of them, over one connection.

With ``libvirt_link.py``, the only room that knows libvirt. It asks in bulk where the driver of the
hypervisor can answer so, and one instance at a time for what is missing then; either way the
answer has the names of libvirt's bulk statistics (``virConnectGetAllDomainStats``). It knows no
meter.
"""

from __future__ import annotations

import functools
import logging
import operator
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from hashring import clock
from hashring.telemetry.errors import Gone, HypervisorRefused, HypervisorUnavailable
from hashring.telemetry.sources.libvirt.domain import SHUT_OFF, Description, describe
from hashring.telemetry.sources.libvirt.link import Link, library

__all__ = [
    "Hypervisor",
    "HypervisorRefused",
    "devices",
    "shared",
]

log = logging.getLogger(__name__)

_DESCRIPTION_AGE = 300.0
"""Seconds after which an instance's XML is read again although nothing hints at a change."""

_GROUPS = {
    "instance": ("STATE", "CPU_TOTAL", "BALLOON", "VCPU"),
    "block": ("STATE", "BLOCK"),
    "net": ("STATE", "INTERFACE"),
}
"""What is asked for together: libvirt's names of groups of statistics."""

_WHOLE: Mapping[str, Callable[[Statistics], bool]] = {
    "instance": lambda told: "cpu.time" in told and "balloon.rss" in told,
    "block": lambda told: any(key.endswith(".rd.bytes") for key in told),
    "net": lambda told: any(key.endswith(".rx.bytes") for key in told),
}
"""How the answer shows that the driver tells these statistics in bulk."""

_MEMORY = ("rss", "available", "unused", "usable", "swap_in", "swap_out")
_BLOCK_FLAGS = {
    # What virDomainBlockStatsFlags calls the bulk statistics.
    "rd.bytes": "rd_bytes",
    "rd.reqs": "rd_operations",
    "rd.times": "rd_total_times",
    "wr.bytes": "wr_bytes",
    "wr.reqs": "wr_operations",
    "wr.times": "wr_total_times",
}
_BLOCK = ("rd.reqs", "rd.bytes", "wr.reqs", "wr.bytes")
_BLOCK_INFO = ("capacity", "allocation", "physical")
_NET = (
    *("rx.bytes", "rx.pkts", "rx.errs", "rx.drop"),
    *("tx.bytes", "tx.pkts", "tx.errs", "tx.drop"),
)

_Answer = TypeVar("_Answer")
Statistics = Mapping[str, Any]


class Hypervisor:
    """The instances of one hypervisor. Its methods may be called from several threads.

    Args:
        uri: libvirt's connection URI; empty: libvirt's own choice. It is opened for reading only.
        timeout: seconds within which a question must be answered.

    Raises:
        MissingLibvirt: libvirt's Python binding is not installed.

    Example:
        >>> hypervisor = Hypervisor("test:///default", timeout=10.0)
        >>> hypervisor.instances()
        {'6695eb01-f6a4-8304-79aa-97f2502e193f': 'test'}
        >>> hypervisor.close()
    """

    def __init__(self, uri: str, timeout: float) -> None:
        self._libvirt = library()
        self._link = Link(uri, timeout)
        self._users = 0
        self._users_lock = threading.Lock()
        # Read at, XML, devices that libvirt named then. Threads replace whole entries.
        self._descriptions: dict[str, tuple[float, Description, frozenset[str]]] = {}
        self._logged: set[tuple[str, int | None]] = set()
        weakref.finalize(self, self._link.close)

    def retain(self) -> None:
        """Be counted as somebody who will call :meth:`release`."""
        with self._users_lock:
            self._users += 1

    def release(self) -> None:
        """Close the connection if nobody else is counted."""
        with self._users_lock:
            self._users -= 1
            last = self._users == 0
        if last:
            self.close()

    def close(self) -> None:
        """Close the connection, if there is one. What is asked later opens another."""
        self._link.close()

    def instances(self) -> dict[str, str]:
        """Return the names of all instances, running or not, by UUID, in the order of those.

        Raises:
            HypervisorUnavailable, HypervisorRefused: they are not told.
        """
        found = self._call("the list of its instances", _names)
        for gone in self._descriptions.keys() - found.keys():
            self._descriptions.pop(gone, None)
        return found

    def host(self) -> str:
        """Return the name of the hypervisor's host, as it tells it."""
        return str(self._call("its host's name", operator.methodcaller("getHostname")))

    def statistics(self, group: str) -> dict[str, Statistics]:
        """Return what the hypervisor tells at once of all instances, by UUID.

        Args:
            group: ``"instance"``, ``"block"`` or ``"net"``.

        Returns:
            libvirt's bulk statistics. How much they hold depends on its driver; an instance that
            is busy may lack what could be told only by waiting. Empty where the driver has none.

        Raises:
            HypervisorUnavailable, HypervisorRefused: they are not told.
        """
        libvirt = self._libvirt
        mask = 0
        for name in _GROUPS[group]:
            mask |= getattr(libvirt, f"VIR_DOMAIN_STATS_{name}")
        # One instance that hangs must not hold up the statistics of all. Not every driver knows
        # this flag, and not every one has bulk statistics.
        for flags in (getattr(libvirt, "VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT", 0), 0):
            told = self._optional(
                "the bulk statistics" if flags == 0 else "bulk statistics without waiting",
                functools.partial(_bulk, mask, flags),
            )
            if told is not None:
                if any(_WHOLE[group](found) for found in told.values()):
                    self._link.learned.add(group)
                return told
        return {}

    def _is_whole(self, group: str, told: Statistics) -> bool:
        """Whether an instance need not be asked alone.

        Where the driver tells others' statistics in bulk, this one was busy; to ask it alone
        would be to wait for it, and everybody else with it.
        """
        return bool(told) and group in self._link.learned

    def description(self, id_: str, named: Iterable[str] = ()) -> Description:
        """Return what an instance's XML tells; it may be some minutes old.

        Args:
            id_: its UUID.
            named: disks or interfaces that its statistics name. Where one of them is new, the XML
                is read again.

        Raises:
            Gone: there is no such instance.
            HypervisorUnavailable, HypervisorRefused: it is not told.
        """
        now, names = clock.boottime(), frozenset(named)
        if id_ in self._descriptions:
            read_at, known, seen = self._descriptions[id_]
            if now - read_at < _DESCRIPTION_AGE and names <= seen:
                return known
            names |= seen
        text = self._call(
            f"the XML of the instance {id_}", lambda connection: _look(connection, id_).XMLDesc()
        )
        found = describe(text)
        self._descriptions[id_] = now, found, names | found.devices
        return found

    def instance(self, id_: str, told: Statistics) -> Statistics:
        """Return the state, times and memory of an instance.

        Args:
            id_: its UUID.
            told: what :meth:`statistics` told of it; what is missing there is asked for.

        Returns:
            Of ``state.state``, ``cpu.time`` (ns), ``vcpu.current``, ``balloon.current``,
            ``balloon.rss``, ``.available``, ``.unused``, ``.usable``, ``.swap_in`` and
            ``.swap_out`` (KiB) those that are known.

        Raises:
            Gone: there is no such instance.
            HypervisorUnavailable, HypervisorRefused: nothing is told.
        """
        found = dict(told)
        if self._is_whole("instance", told):
            return found
        if "state.state" not in found or (_runs(found) and "cpu.time" not in found):
            what = f"the times of the instance {id_}"
            info = self._call(what, lambda connection: _look(connection, id_).info())
            found["state.state"], _, found["balloon.current"] = info[:3]
            found["vcpu.current"], found["cpu.time"] = info[3:]
            if not _runs(found):
                del found["cpu.time"]  # the driver's invention
        if _runs(found) and not any(f"balloon.{name}" in found for name in _MEMORY):
            memory_stats = self._of(id_, "its memory", lambda domain: domain.memoryStats()) or {}
            found |= {
                f"balloon.{name}": memory_stats[name] for name in _MEMORY if name in memory_stats
            }
        return found

    def disks(self, id_: str, told: Statistics) -> tuple[int, Mapping[str, Statistics]]:
        """Return the state of an instance and, by device, the statistics of its disks.

        Args:
            id_: its UUID.
            told: what :meth:`statistics` told of it; what is missing there is asked for.

        Returns:
            Of each disk that has something behind it, of ``rd.bytes``, ``rd.reqs``, ``rd.times``
            (ns), the same of ``wr``, ``capacity``, ``allocation`` and ``physical`` (bytes) those
            that are known.

        Raises:
            Gone: there is no such instance.
            HypervisorUnavailable, HypervisorRefused: nothing is told.
        """
        state, known = self._state(id_, told), devices(told, "block")
        found: dict[str, dict[str, Any]] = {}
        whole = self._is_whole("block", told)
        for disk in self.description(id_, known).disks:
            told_of_it = found[disk] = dict(known.get(disk, {}))
            if whole:
                continue
            if state != SHUT_OFF and "rd.bytes" not in told_of_it:
                told_of_it.update(self._block_counters(id_, disk))
            if "capacity" not in told_of_it:
                sizes = self._of(id_, "a disk's size", operator.methodcaller("blockInfo", disk, 0))
                told_of_it.update(zip(_BLOCK_INFO, sizes or (), strict=False))
        return state, found

    def interfaces(self, id_: str, told: Statistics) -> tuple[int, Mapping[str, Statistics]]:
        """Return the state of an instance and, by device, the statistics of its interfaces.

        Args:
            id_: its UUID.
            told: what :meth:`statistics` told of it; what is missing there is asked for.

        Returns:
            Of each interface, of ``rx.bytes``, ``rx.pkts``, ``rx.errs``, ``rx.drop`` and the same
            of ``tx`` those that are known; the instance receives what is ``rx``.

        Raises:
            Gone: there is no such instance.
            HypervisorUnavailable, HypervisorRefused: nothing is told.
        """
        state, known = self._state(id_, told), devices(told, "net")
        found: dict[str, Statistics] = {}
        if state == SHUT_OFF:
            return state, found
        whole = self._is_whole("net", told)
        for name in (interface.name for interface in self.description(id_, known).interfaces):
            told_of_it = known.get(name, {})
            if "rx.bytes" not in told_of_it and not whole:
                counted = self._of(
                    id_,
                    "an interface's counters",
                    operator.methodcaller("interfaceStats", name),
                )
                told_of_it = dict(zip(_NET, counted or (), strict=False))
            found[name] = told_of_it
        return state, found

    def _state(self, id_: str, told: Statistics) -> int:
        if "state.state" in told:
            return int(told["state.state"])
        what = f"the state of the instance {id_}"
        return int(self._call(what, lambda connection: _look(connection, id_).state()[0]))

    def _block_counters(self, id_: str, disk: str) -> dict[str, Any]:
        counted = self._of(id_, "a disk's latency", lambda domain: domain.blockStatsFlags(disk, 0))
        if counted is not None:
            return {name: counted[key] for name, key in _BLOCK_FLAGS.items() if key in counted}
        numbers = self._of(id_, "a disk's counters", lambda domain: domain.blockStats(disk))
        return dict(zip(_BLOCK, numbers or (), strict=False))

    def _of(self, id_: str, what: str, ask: Callable[[Any], _Answer]) -> _Answer | None:
        """Ask one instance for statistics that its hypervisor may not have."""
        return self._optional(what, lambda connection: ask(_look(connection, id_)), id_)

    def _optional(
        self, what: str, ask: Callable[[Any], _Answer], id_: str | None = None
    ) -> _Answer | None:
        """Return the answer to a question, or ``None`` where it cannot be answered.

        Raises:
            Gone: there is no such instance.
            HypervisorUnavailable: the connection broke.
        """
        libvirt = self._libvirt
        if what in self._link.learned:
            return None
        try:
            return self._link.ask(ask)
        except libvirt.libvirtError as error:
            self._raise_if_final(error, what)
            code = error.get_error_code()
            unknown_flag = id_ is None and code == libvirt.VIR_ERR_INVALID_ARG
            if code == libvirt.VIR_ERR_NO_SUPPORT or unknown_flag:
                self._link.learned.add(what)
            elif code == libvirt.VIR_ERR_INVALID_ARG and id_ is not None:
                self._descriptions.pop(id_, None)  # a device that is there no longer
            # What a driver cannot do, or not while an instance is in this state, is no fault.
            harmless = unknown_flag or code in (
                libvirt.VIR_ERR_NO_SUPPORT,
                libvirt.VIR_ERR_OPERATION_INVALID,
                libvirt.VIR_ERR_OPERATION_UNSUPPORTED,
                libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED,
            )
            if (what, code) not in self._logged:
                self._logged.add((what, code))
                log.log(
                    logging.INFO if harmless else logging.WARNING,
                    "%s does not tell %s%s: %s (said once)",
                    self._link.shown,
                    what,
                    "" if id_ is None else f" (instance {id_})",
                    error,
                )
            return None

    def _call(self, what: str, ask: Callable[[Any], _Answer]) -> _Answer:
        """Return the answer to a question that every hypervisor can answer."""
        try:
            return self._link.ask(ask)
        except self._libvirt.libvirtError as error:
            self._raise_if_final(error, what)
            raise HypervisorRefused(f"{self._link.shown} does not tell {what}: {error}") from error

    def _raise_if_final(self, error: Any, what: str) -> None:
        if error.get_error_code() == self._libvirt.VIR_ERR_NO_DOMAIN:
            raise Gone(str(error)) from None
        if self._link.broke(error):
            raise HypervisorUnavailable(
                f"the connection to the hypervisor at {self._link.shown} broke while asking for "
                f"{what}: {error}; it is opened again when it is needed next"
            ) from error


def devices(told: Statistics, kind: str) -> dict[str, dict[str, Any]]:
    """Return the statistics of each device by name, from libvirt's numbered ones.

    Args:
        told: the bulk statistics of one instance.
        kind: ``"block"`` or ``"net"``.

    Example:
        >>> devices({"net.count": 1, "net.0.name": "tap0", "net.0.rx.bytes": 7}, "net")
        {'tap0': {'rx.bytes': 7}}
    """
    numbered: dict[str, dict[str, Any]] = {}
    for key, value in told.items():
        if key.startswith(f"{kind}."):
            number, dot, name = key[len(kind) + 1 :].partition(".")
            if dot and number.isdigit():
                numbered.setdefault(number, {})[name] = value
    return {str(found.pop("name")): found for found in numbered.values() if "name" in found}


_shared: weakref.WeakValueDictionary[tuple[str, float], Hypervisor] = weakref.WeakValueDictionary()
_shared_lock = threading.Lock()


def shared(uri: str, timeout: float) -> Hypervisor:
    """Return the hypervisor at a URI: the same object, and so one connection, for all who ask.

    >>> hypervisor = shared("test:///default", 10.0)
    >>> shared("test:///default", 10.0) is hypervisor
    True
    """
    with _shared_lock:
        found = _shared.get((uri, timeout))
        if found is None:
            found = _shared[uri, timeout] = Hypervisor(uri, timeout)
        return found


def _runs(told: Statistics) -> bool:
    return bool(told.get("state.state", SHUT_OFF) != SHUT_OFF)


def _look(connection: Any, id_: str) -> Any:
    return connection.lookupByUUIDString(id_)


def _names(connection: Any) -> dict[str, str]:
    return dict(sorted((one.UUIDString(), one.name()) for one in connection.listAllDomains(0)))


def _bulk(mask: int, flags: int, connection: Any) -> dict[str, Statistics]:
    return {one.UUIDString(): told for one, told in connection.getAllDomainStats(mask, flags)}
