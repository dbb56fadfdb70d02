"""`Operator`: asks members to leave, ends dead ones' leases, freezes groups and thaws them."""

from __future__ import annotations

import getpass
import socket
import threading
import time
import uuid
from typing import Self

from hashring import clock
from hashring.driver import Driver, DriverURL, check_names, load
from hashring.errors import NotOffered, StoreUnavailable, UnknownMember
from hashring.observe.records import Records
from hashring.protocol.freezing import Freeze, next_number
from hashring.protocol.record import Member
from hashring.protocol.request import (
    ACCEPTED,
    DRAIN,
    EVICT,
    FREEZE,
    REFUSED,
    THAW,
    Request,
    printable,
)
from hashring.steer import eviction
from hashring.steer.asking import PAUSE, Asking, own_driver, parameters_of
from hashring.steer.outcome import Outcome

__all__ = ["Operator"]

_HEARD = 1.0
"""Leases within which a member that is there answers: it reads the group several times in one."""

_LEAST = 3.0
"""Seconds that it gets at least, however short its lease."""

_TRIES = 5
"""How often a word is said again where another one turns out to count more."""

_ALL = "*"
"""Stands for a member's id where all are asked."""

DEFAULT_TIMEOUT = 120.0
"""Seconds to wait for a hand-over."""


class Operator:
    """Asks the members of a store's groups to do something, under somebody's name.

    The right to write to the store is what it takes. Not for several threads at once, but for
    :meth:`end`.

    Args:
        url: the store's URL, or a driver that is not yet open.
        by: who asks: each member's log says so. By default the user and the host.

    Raises:
        BadURL, UnknownDriver, MissingDependency: the URL has no driver.

    Example:
        >>> import hashring
        >>> with (
        ...     hashring.join("memory://doc-operator", "pollers", "a", ttl=5.0) as partition,
        ...     Operator("memory://doc-operator", by="alice") as operator,
        ... ):
        ...     outcome = operator.drain("pollers", "a")
        >>> outcome.done, [request.by for request in partition.requests]
        (True, ['alice'])
    """

    def __init__(self, url: str | DriverURL | Driver, *, by: str | None = None) -> None:
        self._driver = url if isinstance(url, Driver) else load(url)
        self.by = printable(_whoever() if by is None else by)
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def open(self) -> None:
        """Connect.

        Raises:
            StoreUnavailable, StoreUnusable: see :meth:`hashring.driver.Driver.open`.
        """
        self._driver.open_to_look()

    def close(self) -> None:
        """End the connections."""
        self._driver.close()

    def end(self) -> None:
        """Let what waits in another thread raise ``StoreUnavailable`` soon, and for good.

        What members were asked may have been heard. A lease that was seized runs out by itself.
        """
        self._ended.set()

    def _rest(self, seconds: float) -> None:
        if self._ended.wait(max(0.0, seconds)):
            raise StoreUnavailable(
                f"{self.url}: this was ended while it waited; what was asked may have been heard"
            )

    @property
    def url(self) -> str:
        """The store's URL, secrets masked."""
        return str(self._driver.url)

    def drain(self, group: str, member: str, timeout: float = DEFAULT_TIMEOUT) -> Outcome:
        """Ask a member to leave with hand-over, and wait until it has left.

        A member that has answered goes on with it, however long it takes and whatever becomes of
        this call.

        Args:
            group: the group's id.
            member: the id of the member.
            timeout: seconds to wait.

        Raises:
            UnknownMember: it is not in the group, or its record cannot be read.
            StoreUnavailable: the store did not answer; what was asked may have been heard.
        """
        began = clock.boottime()
        records = self._read(group)
        found = _known(records, group, member)
        request = self._request(DRAIN, found)
        answer_by = began + max(_LEAST, _HEARD * found.ttl)
        told: str | None = None
        with Asking(self._driver, group, parameters_of(records, self._driver), request) as asking:
            for reading in asking.readings(timeout, self._rest):
                now = reading.members.get(member)
                if now is None or now.incarnation != found.incarnation:
                    if member in reading.problems:
                        continue
                    return _outcome(group, request, began, _how_it_left(reading))
                if now.answer is not None and now.answer.id == request.id:
                    told = now.answer.what
                elif now.draining:
                    told = ACCEPTED  # it was told by somebody before
                if told == REFUSED:
                    return _outcome(group, request, began, "its program refuses", done=False)
                if told is None and clock.boottime() > answer_by:
                    break
        if told is None:
            why = "it does not answer: it hangs, or is of a release that knows no requests"
        else:
            why = f"it drains, and has not left within {timeout:g} s: somebody still works for it"
        return _outcome(group, request, began, why, done=False)

    def evict(self, group: str, member: str, *, force: bool = False) -> Outcome:
        """End the lease of a member that is dead, as soon as it surely holds nothing.

        Without ``force`` a member that heartbeats is left alone. With it, it is told to hold
        nothing from now on: work that it has in hand may then be done twice. If it does not hear,
        its lease is seized, and ended once its fence has passed.

        It takes up to about two ttl.

        Args:
            group: the group's id.
            member: the id of the member. Its record need not be readable.
            force: also one that heartbeats.

        Raises:
            UnknownMember: it is not in the group.
            StoreUnavailable: the store did not answer.
        """
        began = clock.boottime()
        records = self._read(group)
        parameters = parameters_of(records, self._driver)
        found = records.members.get(member)
        if found is None and member not in records.problems:
            raise _unknown(records, group, member)
        ttl = parameters.ttl if found is None else found.ttl
        request = Request(EVICT, uuid.uuid4().hex, self.by, member, "")
        if found is not None:
            request = self._request(EVICT, found)
        driver = own_driver(self._driver, ttl)
        driver.open()
        try:
            pulse = eviction.feel(driver, group, member, ttl, self._rest)
            if pulse is None:
                return _outcome(group, request, began, "its lease had run out")
            if pulse.beats and not force:
                why = "it heartbeats: drain it, end its process, or use force"
                return _outcome(group, request, began, why, done=False)
            if pulse.beats and found is not None:
                with Asking(self._driver, group, parameters, request):
                    within = max(_LEAST, ttl / 2)
                    if eviction.gone_within(driver, group, member, within, self._rest):
                        return _outcome(group, request, began, "it holds nothing, and has left")
            return self._end(driver, group, request, began, pulse)
        finally:
            driver.close()

    def freeze(self, group: str) -> Outcome:
        """Let a group stand as it is: nobody gains or loses slots by joins and drains.

        What a member that crashes held is taken over all the same. It lasts until :meth:`thaw`,
        or until none of those is left that were in when it began.

        Where somebody thaws the group before every member knows, that counts: the outcome says by
        whom.

        Args:
            group: the group's id.

        Raises:
            UnknownMember: nobody is in the group: there is nothing to freeze.
            StoreUnavailable: the store did not answer.
        """
        return self._say(group, FREEZE)

    def thaw(self, group: str) -> Outcome:
        """End what :meth:`freeze` began. Arguments and errors are the same."""
        return self._say(group, THAW)

    def _say(self, group: str, what: str) -> Outcome:
        """Say whether a group is frozen, and wait until every member knows."""
        began = clock.boottime()
        records = self._read_what_is_surely_all(group)
        request = Request(what, uuid.uuid4().hex, self.by, _ALL, _ALL)
        for _ in range(_TRIES):
            late: list[str] = []
            known, parameters = records.word, records.parameters
            if parameters is None:
                raise UnknownMember(f"nobody is in {group!r}")
            if (known is not None and known.on) == (what == FREEZE):
                why = "it was not frozen" if known is None or not known.on else _frozen_by(known)
                return _outcome(group, request, began, why)
            word = Freeze(next_number(known), what == FREEZE, self.by, clock.wall())
            with Asking(self._driver, group, parameters, request, word) as asking:
                for records in asking.readings(max(_LEAST, _HEARD * parameters.ttl), self._rest):
                    said = records.word
                    if said is not None and said.number > word.number and said.on != word.on:
                        # To say it again would overrule who spoke last.
                        why = _otherwise(said)
                        return _outcome(group, request, began, why, done=False)
                    if said is not None and said.rank > word.rank:
                        break  # somebody has said something at the same moment, or the same
                    late = [
                        id
                        for id, member in sorted(records.members.items())
                        if id not in records.strangers and not _knows(member, word)
                    ]
                    if not late:
                        return _outcome(group, request, began, "every member knows")
                else:
                    break
        names = ", ".join(late[:5])
        why = (
            f"{len(late)} members do not know yet: they hang, or are of an older release: {names}"
            if late
            else f"others speak at the same moment, again and again: {records.word!r:.200}"
        )
        return _outcome(group, request, began, why, done=False)

    def _read_what_is_surely_all(self, group: str) -> Records:
        """Read a group; where the store may have forgotten a word that counts more than the next
        one, once its members have had a lease's time to come back with it.
        """
        began = clock.boottime()
        while True:
            records = self._read(group)
            parameters = records.parameters
            ttl = self._driver.ttl if parameters is None else parameters.ttl
            left = ttl - max(records.memory_age, clock.boottime() - began)
            if not left > 0:
                return records
            self._rest(min(left, PAUSE))

    def _end(
        self,
        driver: Driver,
        group: str,
        request: Request,
        began: float,
        pulse: eviction.Pulse,
    ) -> Outcome:
        """Seize a lease; where the store cannot, wait until it has run out."""
        reading = driver.read(group)
        record = reading.records.get(request.member)
        if record is None:
            return _outcome(group, request, began, "its lease has run out")
        parameters = parameters_of(Records(reading), driver)
        try:
            eviction.seize(driver, group, request.member, record, parameters, pulse.age, self._rest)
        except NotOffered:
            if not pulse.beats and eviction.gone_within(
                driver, group, request.member, driver.ttl, self._rest
            ):
                return _outcome(group, request, began, "its lease has run out")
            why = (
                "it heartbeats and does not hear, and this store cannot end another's lease: end "
                "its process"
            )
            return _outcome(group, request, began, why, done=False)
        return _outcome(group, request, began, "its lease was ended once it held nothing")

    def _read(self, group: str) -> Records:
        check_names(group)
        return Records(self._driver.read(group))

    def _request(self, what: str, member: Member) -> Request:
        return Request(what, uuid.uuid4().hex, self.by, member.id, member.incarnation)


def _knows(member: Member, word: Freeze) -> bool:
    return member.freeze is not None and member.freeze.rank >= word.rank


def _how_it_left(records: Records) -> str:
    if records.word is not None and records.word.on:
        return "it has left; the group is frozen, so nobody works its share before that is thawed"
    return "it has handed over and left"


def _frozen_by(word: Freeze) -> str:
    return f"it was frozen already, by {word.by!r} since {_clock(word.at)}"


def _otherwise(word: Freeze) -> str:
    act = "froze" if word.on else "thawed"
    return f"{word.by!r:.200} {act} it meanwhile, at {_clock(word.at)}"


def _clock(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


def _outcome(
    group: str, request: Request, began: float, reason: str, *, done: bool = True
) -> Outcome:
    seconds = clock.boottime() - began
    return Outcome(group, request.member, request.what, done, reason, seconds)


def _known(records: Records, group: str, member: str) -> Member:
    found = records.members.get(member)
    if found is None:
        raise _unknown(records, group, member)
    return found


def _unknown(records: Records, group: str, member: str) -> UnknownMember:
    if member in records.problems:
        return UnknownMember(f"the record of {member!r:.200} in {group!r} cannot be read: evict it")
    there = ", ".join(sorted({*records.members, *records.problems})) or "none"
    return UnknownMember(f"no member {member!r:.200} in {group!r}; there are: {there:.500}")


def _whoever() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container whose user has no name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
