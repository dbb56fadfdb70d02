"""``memcached://host``: processes of many hosts, on a cache. For testing, yet exclusive.

Memcached may drop any key at any time, and knows neither transactions nor fractions of a second.
What must hold nevertheless, and what keeps it:

* A member is one key: who holds the lease, until when, and the record. It changes by compare and
  swap alone, so every join, publish, heartbeat, leave and death is one point in its history.
  A swap that was delayed on its way fails, because the key has another number by then.
* A lease that ran out is marked as dead by a swap before anyone is told. Who looks on knows that it
  ran out after watching it unchanged for ``ttl`` on its own boot-time clock; who has just come,
  from the server's uptime, which counts whole seconds and is therefore given some in addition.
* The group is a list of members, under compare and swap too. Nobody takes a member's key away while
  it is in the list: a key that is missing was *forgotten*, whatever the reason, be it a restart, a
  flush, an eviction, or a page of memory moved. The list tells since when, by the server's uptime,
  nothing was; a missing list starts anew. :attr:`Reading.memory_age` is the time since.

This module knows one store, and nothing of rings, views or the hand-off.
"""

from __future__ import annotations

import dataclasses
import math
import threading

from hashring.clock import boottime
from hashring.driver import (
    Driver,
    DriverURL,
    Option,
    Reading,
    Traffic,
    boolean,
    check_names,
    check_record,
    incarnation_of,
)
from hashring.errors import BadURL, StoreUnavailable, StoreUnusable
from hashring.url import seconds

from .._net import tell_limits, within_the_lease
from .connection import Beaten, Connection, Connections, Refused, pause
from .groups import Groups
from .keys import (
    DATE,
    DAY,
    LAG,
    Lease,
    Listing,
    keeps,
    list_key,
    member_key,
    number_key,
    version_key,
)
from .uptime import ServerTime

__all__ = ["MemcachedDriver"]

_PORT = 11211


class MemcachedDriver(Driver):
    """A group on one memcached.

    Example:
        >>> from hashring.driver import load
        >>> load("memcached://cache?heartbeat=5", ttl=4.0)
        Traceback (most recent call last):
        hashring.errors.BadURL: memcached://cache?heartbeat=5: the lease (ttl) of 4 s must be...
    """

    promise = "processes of many hosts, for testing; tells when it forgot anything"
    epochs = (
        "a counter, and the server's time where it forgot; falls if that was set back by over ttl"
    )
    options = (
        Option("heartbeat", seconds, None, "seconds between two heartbeats; default: ttl / 3"),
        Option("poll", seconds, 0.025, "seconds between two looks of wait() at the version"),
        Option("tls", boolean, False, "speak TLS"),
        Option("ca", str, None, "file with the authorities that sign the server's certificate"),
        Option("cert", str, None, "file with our certificate, for a server that asks for one"),
        Option("key", str, None, "file with the key of our certificate"),
        Option("verify", boolean, True, "check the server's certificate and its name"),
    )

    def __init__(self, url: DriverURL, *, ttl: float) -> None:
        super().__init__(url, ttl=ttl)
        self.settings = within_the_lease(self)
        self.traffic = Traffic()
        self._connections = Connections(self, self._checked_host())
        self._check_ttl()
        self._time = ServerTime()
        self._groups = Groups(self._time)
        self._lock = threading.Lock()
        self._own: dict[tuple[str, str], tuple[str, str | None]] = {}

    def open(self) -> None:
        """Connect, and check that the server can be a store.

        Raises:
            StoreUnusable: it refused the user or password, knows no compare and swap, or a TLS
                file is missing.
            StoreUnavailable: it did not answer, or not as memcached does.
        """
        if not self._connections.open():
            return
        tell_limits(self)
        try:
            self._check_server()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close all connections; a :meth:`wait` in another thread returns. Leases run on."""
        self._connections.close()

    def join(self, group: str, member: str, record: bytes) -> None:
        """See :meth:`hashring.driver.Driver.join`."""
        check_names(group, member)
        check_record(record)
        token, incarnation = self.token, incarnation_of(record)
        key = member_key(group, member)
        was_missing = False

        def act(connection: Connection) -> None:
            nonlocal was_missing
            uptime = self._time.uptime(connection)
            lease = Lease(
                token, incarnation, self.ttl, self._until(uptime), dead=False, record=record
            )
            found = connection.get([key])
            if key not in found:
                was_missing = True  # in a further try, too, which finds the key of this one
                connection.add(key, lease.encoded(), lease.keeps)
            else:
                value, number = found[key]
                old = self._groups.sight(group, member, value)
                mine = (old.token, old.incarnation) == (token, incarnation)
                if not (old.dead or mine or self._groups.ran_out(group, member, old, uptime)):
                    until = f"its lease runs for at most {old.ttl + LAG:g} s more"
                    raise self.member_exists(group, member, old.incarnation, until)
                connection.swap(key, lease.encoded(), number, lease.keeps)
            self._groups.enlist(connection, group, member, was_missing=was_missing)
            connection.count(version_key(group))
            # Where the group was forgotten its numbers begin here, and not with the first gain: by
            # then a second has passed, and should they be forgotten again, they begin higher.
            connection.number(number_key(group))

        self._connections.run(f"join of {member!r}", act)
        with self._lock:
            self._own[group, member] = (token, incarnation)

    def seize(self, group: str, member: str, record: bytes) -> None:
        """See :meth:`hashring.driver.Driver.seize`. Whose lease it was fails at its next swap."""
        check_names(group, member)
        check_record(record)
        token, incarnation = self.token, incarnation_of(record)
        key = member_key(group, member)

        def act(connection: Connection) -> None:
            uptime = self._time.uptime(connection)
            value, number = connection.get([key]).get(key, (None, b""))
            if value is None or self._unlisted(connection, {(group, member)}):
                raise self.lease_lost((group, member))  # it was forgotten, or has left
            old = self._groups.sight(group, member, value)
            if old.dead or self._groups.ran_out(group, member, old, uptime):
                raise self.lease_lost((group, member))  # the next reading strikes it off
            until = self._until(uptime)
            lease = Lease(token, incarnation, self.ttl, until, dead=False, record=record)
            connection.swap(key, lease.encoded(), number, lease.keeps)
            connection.count(version_key(group))

        self._connections.run(f"seizing the lease of {member!r}", act)
        with self._lock:
            self._own[group, member] = (token, incarnation)

    def publish(self, group: str, member: str, record: bytes) -> int:
        """See :meth:`hashring.driver.Driver.publish`."""
        check_names(group, member)
        check_record(record)
        owner = (self.token, incarnation_of(record))
        key = member_key(group, member)

        def act(connection: Connection) -> int:
            value, number = connection.get([key]).get(key, (None, b""))
            lease = self._ours(value, owner)
            if lease is None:
                raise self.lease_lost((group, member))
            drawn = connection.number(number_key(group))
            if lease.record != record:
                new = dataclasses.replace(lease, record=record)
                connection.swap(key, new.encoded(), number, new.keeps)
                connection.count(version_key(group))
            return drawn

        return self._connections.run(f"publish of {member!r}", act)

    def heartbeat(self) -> None:
        """See :meth:`hashring.driver.Driver.heartbeat`."""
        self._connections.check_open()
        with self._lock:
            own = dict(self._own)
        gone = self._connections.run("heartbeat", lambda connection: self._renew(connection, own))
        with self._lock:
            # What the other thread left or joined anew meanwhile is not lost.
            gone = [key for key in gone if self._own.get(key) is own[key]]
        if gone:
            raise self.lease_lost(*gone)

    def read(self, group: str) -> Reading:
        """See :meth:`hashring.driver.Driver.read`."""
        check_names(group)
        reading, version = self._connections.run(
            "read", lambda connection: self._groups.read(connection, group)
        )
        self._groups.seen_of(group).version = version
        return reading

    def leases(self, group: str) -> dict[str, float]:
        """See :meth:`hashring.driver.Driver.leases`."""
        check_names(group)
        return self._connections.run(
            "reading leases", lambda connection: self._groups.leases(connection, group)
        )

    def wait(self, group: str, timeout: float) -> None:
        """See :meth:`hashring.driver.Driver.wait`. A lease that runs out is a change, too."""
        check_names(group)
        deadline = boottime() + timeout
        self._connections.check_open()
        seen = self._groups.seen_of(group)
        key = version_key(group)
        # Who watches often knows soon that a lease ran out, and late by no more than this.
        interval = min(0.5, self.ttl / 8)
        next_survey = boottime() + interval

        def look(connection: Connection) -> bytes | None:
            if boottime() >= next_survey:
                return self._groups.read(connection, group)[1]
            return connection.get([key]).get(key, (None, b""))[0]

        while not self._connections.closing.is_set():
            try:
                version = self._connections.run("wait", look)
            except StoreUnavailable:
                if self._connections.closing.is_set():
                    return
                raise
            now = boottime()
            if version is None or version != seen.version or now >= deadline:
                return
            if now >= next_survey:
                next_survey = now + interval
            self._connections.closing.wait(min(self.settings["poll"], deadline - now))

    def leave(self, group: str, member: str) -> None:
        """See :meth:`hashring.driver.Driver.leave`."""
        check_names(group, member)
        self._connections.check_open()
        with self._lock:
            self._own.pop((group, member), None)
        key = member_key(group, member)

        def act(connection: Connection) -> None:
            found = connection.get([key])
            if key not in found:
                return
            value, number = found[key]
            lease = Lease.decoded(value)
            if lease.token != self.token:
                return
            if not lease.dead:
                self._groups.kill(connection, group, member, lease, number)
            self._groups.strike(connection, group, {member})

        self._connections.run(f"leave of {member!r}", act)

    def _check_server(self) -> None:
        try:
            settings = self._connections.run("connecting", lambda connection: connection.settings())
        except StoreUnavailable as error:
            if isinstance(error.__cause__, Refused):
                why = self.url.hide(str(error.__cause__))
                raise StoreUnusable(f"{self.url}: {why}") from None
            raise
        if settings.get(b"cas_enabled") not in {b"yes", True}:
            raise StoreUnusable(
                f"{self.url}: the server runs without compare and swap: start it without -C"
            )

    def _renew(
        self, connection: Connection, own: dict[tuple[str, str], tuple[str, str | None]]
    ) -> list[tuple[str, str]]:
        """Renew leases, and return those that are gone."""
        if not own:
            return []
        # The uptime first: what is promised counts from the call's start.
        until = self._until(self._time.uptime(connection))
        gone = []
        left = dict(own)
        while left:
            found = connection.get([member_key(*names) for names in left])
            for names, owner in list(left.items()):
                key = member_key(*names)
                value, number = found.get(key, (None, b""))
                lease = self._ours(value, owner)
                if lease is None:
                    gone.append(names)
                    del left[names]
                    continue
                renewed = dataclasses.replace(lease, ttl=self.ttl, until=until)
                try:
                    connection.swap(key, renewed.encoded(), number, renewed.keeps)
                    del left[names]
                except Beaten:
                    pause()
        return gone + self._unlisted(connection, own.keys() - set(gone))

    def _unlisted(
        self, connection: Connection, names: set[tuple[str, str]]
    ) -> list[tuple[str, str]]:
        """Return the members that no reading shows, since their group's list was forgotten.

        The list comes after the leases: who lost it before this look is told now, and whoever
        reads after a later loss finds a young memory.
        """
        keys = {list_key(group) for group, _ in names}
        found = connection.get(keys) if keys else {}
        listed = {key: Listing.decoded(value).members for key, (value, _) in found.items()}
        return [
            (group, member)
            for group, member in names
            if member not in listed.get(list_key(group), ())
        ]

    def _ours(self, value: bytes | None, owner: tuple[str, str | None]) -> Lease | None:
        """Return the lease in a member's key if it is ours, and not dead."""
        if value is None or self.token != owner[0]:
            return None
        lease = Lease.decoded(value)
        ours = not lease.dead and (lease.token, lease.incarnation) == owner
        return lease if ours else None

    def _until(self, uptime: int) -> int:
        return uptime + math.ceil(self.ttl) + LAG

    def _checked_host(self) -> tuple[str, int] | str:
        url, settings = self.url, self.settings
        if len(url.hosts) > 1:
            raise BadURL(
                f"{url}: name one server: several would share the keys out, and lose them when "
                "one of them goes"
            )
        if (url.user is None) != (url.secret is None):
            raise BadURL(f"{url}: write both a user and a password, or neither")
        if (settings["ca"] or settings["cert"] or settings["key"]) and not settings["tls"]:
            raise BadURL(f"{url}: ca, cert and key are for TLS; add tls=true")
        path = url.path.rstrip("/")
        if path and (url.hosts or settings["tls"]):
            raise BadURL(f"{url}: write memcached://host:port, or memcached:///path/of/a/socket")
        if path:
            return path
        host, port = url.hosts[0] if url.hosts else ("localhost", None)
        return host, port or _PORT

    def _check_ttl(self) -> None:
        if keeps(self.ttl) > DATE:
            raise BadURL(
                f"{self.url}: the lease (ttl) of {self.ttl:g} s is too long: memcached keeps a key "
                f"for 30 days at most, which is enough for {(DATE - DAY) // 2} s"
            )
        heartbeat = self.settings["heartbeat"]
        if heartbeat is not None and self.ttl <= heartbeat:
            raise BadURL(
                f"{self.url}: the lease (ttl) of {self.ttl:g} s must be longer than the heartbeat "
                f"interval of {heartbeat:g} s"
            )
