"""The driver interface: what a store must do for a group, and how a URL finds its driver.

A driver knows one store and nothing of rings, views or hand-offs: records are bytes to it. This
module has the interface (:class:`Driver`, :class:`Reading`), the words of its errors, and which
driver a URL names. Names and records are checked by :mod:`hashring.checks`; URLs, their options and
their secrets are the business of :mod:`hashring.url`, entry points of :mod:`hashring.plugins`,
pauses of :mod:`hashring.backoff`. What a driver's author needs of them can be imported from here.
It imports no driver: ours and third parties' are found in the same way.
"""

from __future__ import annotations

import abc
import dataclasses
import itertools
import os
import uuid
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from hashring import plugins
from hashring._installation import check_files, check_platform
from hashring.backoff import Backoff
from hashring.checks import MAX_NAME, check_names, check_record, incarnation_of
from hashring.errors import (
    BadURL,
    BrokenDriver,
    BrokenPlugin,
    LeaseLost,
    MemberExists,
    NotOffered,
    StoreUnavailable,
    StoreUnusable,
    UnknownDriver,
)
from hashring.protocol.reading import MAX_RECORD, Changes, Reading
from hashring.traffic import Traffic
from hashring.url import (
    DriverURL,
    Option,
    boolean,
    check_node_path,
    count,
    fraction,
    looks_secret,
    masked,
    read_options,
    seconds,
)

# Here too: another distribution may have overwritten hashring/__init__.py.
check_files()

__all__ = [
    "COMMON_OPTIONS",
    "DEFAULT_TTL",
    "ENTRY_POINTS",
    "MAX_NAME",
    "MAX_RECORD",
    "Changes",
    "Driver",
    "DriverDescription",
    "DriverURL",
    "Option",
    "Reading",
    "Traffic",
    "boolean",
    "check_names",
    "check_node_path",
    "check_record",
    "count",
    "describe",
    "driver_class",
    "drivers",
    "fraction",
    "incarnation_of",
    "load",
    "looks_secret",
    "masked",
    "seconds",
]

ENTRY_POINTS = plugins.DRIVERS

DEFAULT_TTL = 10.0
"""The lease in seconds where neither the caller nor the URL's ``ttl`` option names one."""

COMMON_OPTIONS: tuple[Option, ...] = (
    Option("ttl", seconds, None, "lease in seconds, where the program names none"),
    Option("resume", seconds, None, "a member that leaves keeps its share for so many seconds"),
    Option("connect_timeout", seconds, 3.0, "seconds to wait for a connection"),
    Option("timeout", seconds, 3.0, "seconds to wait for an answer"),
    Option("retries", count, 2, "further tries of a request that is safe to repeat"),
    Option("backoff", seconds, 0.05, "seconds before the first further try; doubles each time"),
    Option("backoff_max", seconds, 2.0, "the longest wait in seconds between two tries"),
    Option("jitter", fraction, 0.5, "the random part of each wait, 0 to 1"),
)
"""Options that every driver accepts."""


class Driver(abc.ABC):
    """One store, as one process sees it. A third party implements this and nothing else.

    The life of a driver, as :func:`hashring.join` leads it::

        driver = SomeDriver(DriverURL.parse("some://host"), ttl=10.0)
        driver.open()
        driver.join("group", "member", record)        # the lease begins
        while working:
            driver.heartbeat()                         # one thread, each ttl / 3
            reading = driver.read("group")             # another thread
            driver.publish("group", "member", record)
            driver.wait("group", timeout)
        driver.leave("group", "member")
        driver.close()

    Methods may be called from two threads at once: one calls :meth:`heartbeat`, one the rest; and
    :meth:`close` may come from a third. A closed driver may be opened again.

    Every method that talks to the store ends within the ``timeout`` option and raises
    :class:`~hashring.errors.StoreUnavailable` where it could not learn the outcome. The store
    must apply one driver's writes in the order of their calls: a write whose outcome is unknown
    must never land after a later one has been confirmed. No client's wall clock enters a lease.

    Args:
        url: the parsed URL.
        ttl: the lease in seconds.

    Raises:
        BadURL: an option is unknown or ill-typed; the message lists those there are.

    Attributes:
        options: the driver's own options, beside :data:`COMMON_OPTIONS`.
        promise: one line for ``hashring drivers``: what the store keeps, and what it can forget.
        epochs: one line: where the numbers that :meth:`publish` returns come from, and what could
            make them fall. Empty: it returns none, and ``cycle.token.epoch`` is ``None``.
        interrupts: :meth:`interrupt` ends a :meth:`wait`.
        settings: the typed options by name.
        traffic: counts the bytes that it sends and receives, for the metrics; ``None``: it does
            not tell.
    """

    traffic: Traffic | None = None
    options: ClassVar[tuple[Option, ...]] = ()
    promise: ClassVar[str] = ""
    epochs: ClassVar[str] = ""
    interrupts: ClassVar[bool] = False

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        # Who reads in a way of its own must not be passed over by an inherited read_since().
        if "read" in vars(cls) and "read_since" not in vars(cls):
            cls.read_since = Driver.read_since  # type: ignore[method-assign]

    def __init__(self, url: DriverURL, *, ttl: float) -> None:
        secrets = {option.name for option in self.options if option.secret}
        self.url = dataclasses.replace(url, masked=url.masked | secrets)
        try:
            self.ttl = seconds(str(ttl))
        except ValueError:
            raise BadURL(
                f"{self.url}: ttl must be a positive number of seconds, not {ttl!r}"
            ) from None
        self._token, self._pid = uuid.uuid4().hex, os.getpid()
        self.settings: Mapping[str, Any] = MappingProxyType(
            read_options(
                self.url.options.items(),
                (*COMMON_OPTIONS, *self.options),
                str(self.url),
                self.url.masked,
            )
        )

    @property
    def token(self) -> str:
        """The identity of this driver object, in this process; a forked child's differs.

        So a child never renews, and never holds by, the lease that its parent joined.
        """
        if self._pid != os.getpid():
            self._token, self._pid = uuid.uuid4().hex, os.getpid()
        return self._token

    # -- what goes wrong: the errors of every store in the same words, secrets masked

    def unavailable(self, doing: str, error: BaseException) -> StoreUnavailable:
        """Return the error to raise where the store failed: what was tried, where, and why."""
        why = self.url.hide(f"{type(error).__name__}: {error}")
        return StoreUnavailable(f"{self.url}: {doing} failed: {why}")

    def not_open(self) -> StoreUnavailable:
        """Return the error to raise where a method is called before :meth:`open`."""
        return StoreUnavailable(f"{self.url} is not open: call open() first")

    def forked(self, process: int) -> StoreUnusable:
        """Return the error to raise where a fork uses what its parent opened.

        Args:
            process: the id of the process that did.
        """
        return StoreUnusable(
            f"{self.url} was opened in process {process}, and this is its fork {os.getpid()}: "
            "open a driver of its own there"
        )

    def member_exists(
        self, group: str, member: str, incarnation: str | None = None, until: str = ""
    ) -> MemberExists:
        """Return the error to raise by :meth:`join` while another incarnation's lease lives.

        Args:
            group: the group's id.
            member: the member's id.
            incarnation: the other's, where its record shows one.
            until: what is known of its lease, as in ``"its lease runs for 2.5 s more"``.
        """
        other = f" ({incarnation})" if incarnation is not None else ""
        return MemberExists(
            f"{self.url}: member {member!r} of group {group!r} is alive in another "
            f"incarnation{other}{'; ' if until else ''}{until}"
        )

    def lease_lost(self, *members: tuple[str, str]) -> LeaseLost:
        """Return the error to raise where leases are gone, or are another incarnation's.

        Args:
            members: for each, the ids of its group and of the member.
        """
        who = ", ".join(f"{member!r} in group {group!r}" for group, member in members)
        return LeaseLost(f"{self.url}: the lease of {who} is gone")

    # -- pauses

    def delays(self) -> Iterator[float]:
        """Yield the wait in seconds before each further try of a request that is safe to repeat.

        There are ``retries`` of them, from ``backoff`` on doubling up to ``backoff_max``; the
        random part of each, ``jitter``, keeps the members of a group from retrying in step. See
        :class:`hashring.backoff.Backoff` for a wait that has no end.
        """
        settings = self.settings
        pauses = Backoff(settings["backoff"], settings["backoff_max"], jitter=settings["jitter"])
        return itertools.islice(pauses, settings["retries"])

    # -- what a store must do

    @abc.abstractmethod
    def open(self) -> None:
        """Connect; nothing where it is open already.

        Raises:
            StoreUnavailable: the store cannot be reached within ``connect_timeout``.
            StoreUnusable: it can, but will never serve (no right to write, wrong credentials).
        """

    @abc.abstractmethod
    def close(self) -> None:
        """End connections and threads. Idempotent; does not end a lease.

        A :meth:`wait` in another thread should return soon, and at its timeout at the latest.
        """

    @abc.abstractmethod
    def join(self, group: str, member: str, record: bytes) -> None:
        """Begin a lease of ``ttl`` seconds that carries ``record``.

        A second call on the same driver with the same :func:`incarnation <incarnation_of>` renews
        it, with the new record. What is in the store, where the lease lives, is the
        driver's :attr:`token` and that incarnation: whoever differs in either is another.

        Raises:
            MemberExists: another incarnation's lease lives, or another driver's.
            BadName, BadRecord: see :func:`check_names` and :func:`check_record`.
            StoreUnavailable: the outcome is unknown.
        """

    @abc.abstractmethod
    def publish(self, group: str, member: str, record: bytes) -> int | None:
        """Replace this driver's own record. It need not renew the lease.

        Returns:
            Optionally the number of this write: greater than that of every publish into the
            group, by anybody, that had returned before this call began. It is what
            :attr:`hashring.Token.epoch` is made of. What is returned while the memory is younger
            than ``ttl`` does not count: nobody gains then. ``None``: this store gives none (see
            :attr:`epochs`).

        Raises:
            LeaseLost: the record is gone, or is another incarnation's.
            BadName, BadRecord: see :func:`check_names` and :func:`check_record`.
            StoreUnavailable: the outcome is unknown.
        """

    @abc.abstractmethod
    def heartbeat(self) -> None:
        """Renew every lease of this driver.

        Returns only if the store has confirmed, after the call began, that each lease now runs
        for at least ``ttl`` seconds from the call's start. Nothing where the driver has none. A
        lease that was seen as gone by anybody's :meth:`read` must never come back by a heartbeat.

        Raises:
            LeaseLost: a lease is gone; the others are renewed all the same. It counts as this
                driver's until it joins anew or leaves.
            StoreUnavailable: the outcome is unknown.
        """

    @abc.abstractmethod
    def read(self, group: str) -> Reading:
        """Return the live records as they are in the store now, after the call began.

        A member whose lease ran out is gone at once; one that lives is never missing.
        """

    def read_since(self, group: str, cursor: bytes | None) -> Changes | None:
        """Return what has changed since a cursor, as it is in the store now, after the call began.

        Optional: this one returns ``None``, which says that the driver does not offer it, and
        :meth:`read` is called instead. A class that overrides :meth:`read` alone does not offer it.

        Args:
            group: the group's id.
            cursor: from an earlier call, perhaps on another driver object or another store;
                ``None``: from none. Where it cannot be told what happened since, the answer is
                ``complete``.
        """
        return None

    @abc.abstractmethod
    def wait(self, group: str, timeout: float) -> None:
        """Return when the group may have changed since the last reading, or on timeout.

        A reading is a :meth:`read` or a :meth:`read_since`. A plain sleep of ``timeout`` seconds is
        allowed.
        """

    def interrupt(self) -> None:  # noqa: B027 - optional: most stores cannot
        """Let a :meth:`wait` in another thread, or else the next one, return at once.

        Optional: this one does nothing, and :attr:`interrupts` says so. A member then waits for a
        twentieth of a second at a time, so that it soon notices what its own program asks of it.
        Where waits can be ended it sleeps until something happens, which costs a third of the
        processor time. Never waits, may come from any thread at any time, also before
        :meth:`open` and after :meth:`close`, and raises nothing.
        """

    @abc.abstractmethod
    def leave(self, group: str, member: str) -> None:
        """End this driver's own lease at once. Idempotent; never removes another incarnation's."""

    # -- what a store may do: people who look on ask for it, the hand-off does not

    def open_to_look(self) -> None:
        """Connect as :meth:`open` does; but where there is no store yet, make none."""
        self.open()

    def groups(self) -> list[str]:
        """Return the ids of the groups that have live members, in any order.

        Raises:
            NotOffered: this store cannot list them; a driver need not.
            StoreUnavailable: the store did not answer.
        """
        raise NotOffered(f"{self.url}: this store cannot list its groups: name the group")

    def seize(self, group: str, member: str, record: bytes) -> None:
        """Make another's lease this driver's own, at once, with another record.

        From when it returns, heartbeats and publishes of whose lease it was raise
        :class:`~hashring.errors.LeaseLost`; there is no moment at which the member has no record.
        The lease runs as after :meth:`join`. The record has an incarnation of its own. Optional:
        for ``hashring group evict``.

        Raises:
            NotOffered: this store cannot; a driver need not.
            LeaseLost: no such member lives.
            BadName, BadRecord: see :func:`check_names` and :func:`check_record`.
            StoreUnavailable: the outcome is unknown.
        """
        raise NotOffered(f"{self.url}: this store cannot end another's lease: it has to run out")

    def leases(self, group: str) -> Mapping[str, float]:
        """Return for how many seconds each member's lease runs, by member id, as far as known.

        Raises:
            StoreUnavailable: the store did not answer.
        """
        return {}


def drivers() -> list[str]:
    """Return the URL schemes of the installed drivers, sorted; a plugin's among them.

    >>> "sqlite" in drivers()
    True
    """
    return plugins.names(ENTRY_POINTS)


def driver_class(scheme: str) -> type[Driver]:
    """Import the driver that serves a scheme.

    ``tooz+file`` is served by an entry point of that name, else by ``tooz``.

    Raises:
        UnknownDriver: no entry point has this name; the message lists those installed.
        MissingDependency: the driver's client library is missing.
        BrokenDriver: the entry point failed to import, is no :class:`Driver`, or two
            distributions claim the scheme.
    """
    scheme = scheme.lower()
    installed = drivers()
    name = scheme if scheme in installed else scheme.partition("+")[0]
    if name not in installed:
        raise UnknownDriver(
            f"no driver serves {scheme}://; installed: {', '.join(installed) or 'none'}. "
            f"A plugin registers one under the entry-point group {ENTRY_POINTS!r}"
        )
    try:
        return plugins.load(ENTRY_POINTS, name, Driver)  # type: ignore[type-abstract]
    except BrokenPlugin as error:
        raise BrokenDriver(f"no driver for {scheme}://: {error}") from error.__cause__


def load(url: str | DriverURL, *, ttl: float | None = None) -> Driver:
    """Return the driver for a URL, not yet open.

    Args:
        url: the store's URL.
        ttl: the lease in seconds; else the URL's ``ttl`` option, else :data:`DEFAULT_TTL`.

    Raises:
        BadURL: the URL cannot be parsed, or an option in it is unknown or ill-typed.
        UnknownDriver, MissingDependency, BrokenDriver: see :func:`driver_class`.
        UnsupportedPlatform: this is not Linux.

    >>> load("memory://?ttl=5").ttl, load("memory://?ttl=5", ttl=3).ttl, load("memory://").ttl
    (5.0, 3.0, 10.0)
    """
    check_platform()
    parsed = url if isinstance(url, DriverURL) else DriverURL.parse(url)
    found = driver_class(parsed.scheme)
    if ttl is None:
        # An ill-typed option is reported by the driver's own check, beside all others.
        ttl = found(parsed, ttl=DEFAULT_TTL).settings["ttl"] or DEFAULT_TTL
    return found(parsed, ttl=ttl)


@dataclasses.dataclass(frozen=True)
class DriverDescription:
    """One installed driver, as ``hashring drivers`` shows it.

    Attributes:
        scheme: what stands before ``://``.
        distribution: name and version of the distribution that brings it.
        target: the entry point's ``module:class``.
        promise: one line: what the store keeps, and what it can forget; empty if it cannot load.
        options: its own options; :data:`COMMON_OPTIONS` come on top.
        problem: why it cannot be used, or ``None``.
    """

    scheme: str
    distribution: str
    target: str
    promise: str
    options: tuple[Option, ...]
    problem: str | None


def describe() -> list[DriverDescription]:
    """Return what is installed, sorted by scheme, the drivers that cannot load among it.

    >>> [found.promise for found in describe() if found.scheme == "memory"]
    ['threads of one process; never forgets while the process lives']
    """
    return [
        DriverDescription(
            scheme=plugin.name,
            distribution=plugin.distribution,
            target=plugin.target,
            promise=plugin.found.promise if plugin.found is not None else "",
            options=plugin.found.options if plugin.found is not None else (),
            problem=plugin.problem,
        )
        for plugin in plugins.describe(ENTRY_POINTS, Driver)  # type: ignore[type-abstract]
    ]
