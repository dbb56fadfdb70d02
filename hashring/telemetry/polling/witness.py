"""Witness: a process beside an agent that tells the others which poll stopped it.

An agent whose interpreter is held, or that is killed for its memory, can tell nobody why. Its
witness reads the table of polls in hand (`flights`) and looks at the agent's threads. If the agent
stands still for :data:`STILL` of a lease, or dies after it grew, the witness judges which poll was
at fault (`judgement`), joins the group with weight 0, and says so in its ``meta`` (`set_aside`):
before the lease of the agent ends, so that its heirs know. While all is well it is in no group.

Run as ``python -m hashring.telemetry.polling.witness FD``; what to do comes as JSON through stdin,
since a store's URL may hold a password. It ends with its agent, whatever becomes of that.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

from hashring import clock
from hashring.driver import DriverURL, driver_class
from hashring.errors import HashringError
from hashring.partition.partition import Partition, join
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.polling.flights import Flight, Flights, open_flights, read_flights
from hashring.telemetry.polling.judgement import Usage, holders, memory_takers
from hashring.telemetry.polling.repeating import Repeating
from hashring.telemetry.polling.set_aside import Case, to_meta

__all__ = ["Guard"]

log = logging.getLogger(__name__)

STILL = 0.25
"""The part of a lease for which an agent's threads must not have run before anything is judged."""

_JUDGE = 0.1
"""The part of a lease over which its threads are then measured."""

_LOOK = 0.05
"""The part of a lease between two looks, and between two stamps of an agent."""

_STAY = 3.0
"""Leases for which a witness stays in a group after it has told something: until the agent's lease
has run out and its heirs have read the group."""

_END = 2.0
"""Seconds that a witness gets to end when its agent does."""

_BYE = b"bye\n"


@dataclasses.dataclass(frozen=True)
class _Orders:
    """What an agent tells its witness."""

    backend_url: str
    member: str
    host: str
    ttl: float


class Guard:
    """An agent's side: its table of polls, the thread that stamps it, and the witness's process.

    Args:
        settings: of the agent.

    Without a witness (the store is this process's own, or the process cannot be started, which is
    logged) the table is kept all the same, and nobody reads it.
    """

    def __init__(self, settings: Settings) -> None:
        self.flights = Flights()
        self._settings = settings
        self._stamping = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.flights.stamp()
        if not self._settings.backend_url.startswith("memory:"):
            self._start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        process = self._process
        self._stamping.close()
        if process is not None:
            assert process.stdin is not None
            with contextlib.suppress(OSError):
                process.stdin.write(_BYE)
                process.stdin.close()
            try:
                process.wait(_END)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.flights.close()

    def _start(self) -> None:
        settings = self._settings
        self._stamping.enter_context(
            Repeating(self.flights.stamp, _LOOK * settings.ttl, name="stamp")
        )
        orders = _Orders(settings.backend_url, settings.member, settings.host, settings.ttl)
        fd = self.flights.fd
        command = [sys.executable, "-m", __name__, str(fd)]
        try:
            # Of a session of its own: Ctrl-C is for the agent, which may take long to end.
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=(fd,),
                start_new_session=True,
                bufsize=0,
            )
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(dataclasses.asdict(orders)).encode() + b"\n")
        except OSError as error:
            log.warning(
                "no witness runs beside this agent (%s): a poll that stops it will stop its heirs",
                error.strerror or error,
            )


class _Witness:
    """The process's side.

    Args:
        orders: from the agent.
        fd: of the agent's table.
        pid: the agent's.
    """

    def __init__(self, orders: _Orders, fd: int, pid: int) -> None:
        self._orders = orders
        self._memory = open_flights(fd)
        self._pid = pid
        self._look = _LOOK * orders.ttl
        self._quiet_from = clock.boottime()
        self._first: tuple[float, dict[int, Usage]] | None = None  # within this standstill
        self._size = 0
        self._sizes: dict[Flight, int] = {}  # of the agent before a poll was first seen
        self._accused: set[Flight] = set()
        self._cases: dict[str, list[Case]] = {}  # by group
        self._untold: set[str] = set()
        self._partitions: dict[str, Partition] = {}
        self._stay_until = 0.0

    def run(self) -> None:
        """Watch until the agent has ended, and what there is to tell has been told."""
        # Now, and not when the time of a lease runs: an import takes long on a busy machine.
        with contextlib.suppress(HashringError):
            driver_class(DriverURL.parse(self._orders.backend_url).scheme)
        last = clock.boottime()
        try:
            while (said := self._wait()) is None:
                now = clock.boottime()
                stopped = self._measure()
                # A witness that was late itself, or an agent that was paused, tells nothing.
                if stopped or now - last > STILL * self._orders.ttl:
                    self._quiet_from, self._first = now, None
                else:
                    self._judge(now)
                self._tell(now)
                last = clock.boottime()
            if said == _BYE:
                return
            self._accuse(memory_takers({f: self._size - size for f, size in self._sizes.items()}))
            while self._cases and clock.boottime() < self._stay_until:
                self._tell(clock.boottime())
                threading.Event().wait(self._look)
        finally:
            for partition in self._partitions.values():
                partition.leave()

    def _wait(self) -> bytes | None:
        """Wait until the next look; return what the agent said last, ``b""`` if it died."""
        ready, _, _ = select.select([sys.stdin.buffer], [], [], self._look)
        if ready:
            return os.read(sys.stdin.fileno(), len(_BYE))
        # Another child of the agent may have inherited the pipe.
        return b"" if os.getppid() != self._pid else None

    def _measure(self) -> bool:
        """Take note of the agent's size; return whether it is paused or no more."""
        try:
            state = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()[0]
            pages = int(Path(f"/proc/{self._pid}/statm").read_text().split()[1])
        except (OSError, IndexError, ValueError):
            return True
        if state in "ZXx" or not pages:
            return True  # it is dying: its memory is gone already
        # A poll that is seen for the first time began after the last look: what it took since then
        # counts as its own.
        before, self._size = self._size, pages * os.sysconf("SC_PAGE_SIZE")
        _, flights = read_flights(self._memory)
        self._sizes = {flight: self._sizes.get(flight, before or self._size) for flight in flights}
        return state in "Tt"

    def _judge(self, now: float) -> None:
        ttl = self._orders.ttl
        stamp, flights = read_flights(self._memory)
        still = now - max(stamp, self._quiet_from)
        if still < STILL * ttl:
            self._first = None
            return
        # What began before the standstill did not bring it about unless it runs on.
        usage = _usage(self._pid, {flight.thread for flight in flights})
        if self._first is None:
            self._first = now, usage
        elif now - self._first[0] >= _JUDGE * ttl:
            since, before = self._first
            self._accuse(holders(flights, before, usage, now - since))
            self._first = None

    def _accuse(self, flights: list[Flight]) -> None:
        for flight in flights:
            if flight in self._accused:
                continue
            self._accused.add(flight)
            case = Case(flight.id, f"{self._orders.member}/{uuid.uuid4().hex}")
            self._cases.setdefault(flight.group, []).append(case)
            self._untold.add(flight.group)
            self._stay_until = clock.boottime() + _STAY * self._orders.ttl
            log.warning(
                "witness of %s: a poll of %s in %s keeps it from running; telling the others",
                self._orders.member,
                flight.id,
                flight.group,
            )

    def _tell(self, now: float) -> None:
        """Tell what there is to tell; try again later where that fails. Leave when all is told."""
        for group in list(self._untold):
            orders = self._orders
            meta = {"role": "witness", "host": orders.host, **to_meta(self._cases[group][-32:])}
            try:
                if group in self._partitions:
                    self._partitions[group].publish_meta(meta)
                else:
                    self._partitions[group] = join(
                        orders.backend_url,
                        group,
                        member=f"witness/{orders.member}/{os.getpid()}"[:500],
                        weight=0.0,
                        ttl=orders.ttl,
                        meta=meta,
                    )
            except HashringError as error:
                log.warning("witness of %s: not told: %s", orders.member, error)
            else:
                self._untold.discard(group)
        if now >= self._stay_until:
            self._cases.clear()
            self._untold.clear()
            self._accused &= set(self._sizes)  # what is in hand still was told of already
            while self._partitions:
                self._partitions.popitem()[1].leave()


def _usage(pid: int, threads: set[int]) -> dict[int, Usage]:
    """Return what threads of a process have used; without those that are no more."""
    found = {}
    for thread in threads:
        folder = Path(f"/proc/{pid}/task/{thread}")
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            status = (folder / "status").read_text()
        except OSError:
            continue
        ticks = int(fields[11]) + int(fields[12])
        sleeps = int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
        found[thread] = Usage(ticks / os.sysconf("SC_CLK_TCK"), sleeps)
    return found


def main() -> None:
    """Do what the agent says through stdin; the table's descriptor is the only argument."""
    pid = os.getppid()
    # A service manager tells every process of a service to stop: this one ends with its agent.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    line = b""
    while not line.endswith(b"\n"):
        read = os.read(sys.stdin.fileno(), 1)
        if not read:
            return
        line += read
    _Witness(_Orders(**json.loads(line)), int(sys.argv[1]), pid).run()


if __name__ == "__main__":
    main()
