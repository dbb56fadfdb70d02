"""What a member says in the log: that its store is away, for whom it waits, that the clock stepped.

Each is said when it begins and when it is over, not at every look. This module calls no store.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from hashring import clock
from hashring.partition import outage

__all__ = ["ClockWatch", "Reports"]

log = logging.getLogger("hashring")

_NAME_AGAIN = 30.0
"""Seconds between two lines in the log about strangers: one that retries comes under new names."""

_MOST_NAMED = 5
"""How many strangers one line names."""

_REFUSALS = _LEASE_LOST, _ID_TAKEN = "the lease is lost", "the member's id is taken"


class ClockWatch:
    """Names a step of the wall clock at once; what it means for windows is the streams' part."""

    def __init__(self, group: str, member: str, ttl: float) -> None:
        self._name = f"{group}: {member}"
        self._steps = clock.Steps(ttl)
        self._steps.look_now()

    @property
    def count(self) -> int:
        """How often it has stepped by more than the ttl."""
        return self._steps.count

    @property
    def latest(self) -> float | None:
        """By how many seconds it stepped last, negative where it was back; ``None``: never."""
        return self._steps.latest

    def look(self) -> None:
        """Look whether it has stepped since the last look."""
        step = self._steps.look_now()
        if step is None:
            return
        if step < 0:
            meaning = (
                "windows go on with the new time, and their labels repeat; a loop of which three "
                "windows are longer than the step waits for the clock to catch up"
            )
        else:
            meaning = "the windows in between are skipped"
        log.warning(
            "%s: the wall clock has stepped %s by %.1f s: %s",
            self._name,
            "back" if step < 0 else "forth",
            abs(step),
            meaning,
        )


class Reports:
    """The log lines of one member, and what they are about while it lasts.

    Args:
        group: the group's id.
        member: this member's id.
        url: the store's, secrets masked.
        ttl: the lease in seconds.

    Attributes:
        waits_for: why the member is not settled, in a sentence for an operator.
    """

    def __init__(self, group: str, member: str, url: str, ttl: float) -> None:
        self._group, self._member, self._url, self._ttl = group, member, url, ttl
        name = f"{group}: {member}"
        self._store = outage.of_store(url)
        self._heartbeats, self._readings = f"{name}: no heartbeat", f"{name}: no reading"
        self._refusals = outage.Outage(name, "the store refused", "is accepted again")
        self._defects = outage.Outage(name, "a defect of the driver", "works again")
        self._last_problem = ""
        self._strangers: frozenset[str] = frozenset()  # those that were named
        self._named_again = 0.0  # when more of them may be
        self._stands_still = False
        self._away: set[tuple[str, str]] = set()  # of whom it was said
        self.waits_for = "the first reading of the group is on its way"

    @property
    def store_is_away(self) -> bool:
        """Whether this member's latest heartbeat or its latest reading has failed."""
        return any(self._store.is_failing(one) for one in (self._heartbeats, self._readings))

    def end(self) -> None:
        """Note that this member makes no calls any more."""
        self._store.forget(self._heartbeats, self._readings)

    # ---- heartbeats ------------------------------------------------------------------------

    def heartbeat_worked(self) -> bool:
        """A heartbeat was confirmed; return whether the one before it had failed."""
        was_away = self._store.is_failing(self._heartbeats)
        self._store.worked(self._heartbeats)
        self._defects.worked("heartbeat")
        return was_away

    def heartbeat_refused(self, error: BaseException) -> None:
        """The store has answered that the lease is lost."""
        self._store.worked(self._heartbeats)
        self._refusals.failed(_LEASE_LOST, error)

    def heartbeat_failed(self, error: BaseException) -> None:
        """A heartbeat was not answered."""
        self._store.failed(self._heartbeats, error)

    def heartbeat_broke(self, error: BaseException) -> None:
        """A heartbeat raised what no driver may raise."""
        self._defects.failed("heartbeat", error, trace=True)

    # ---- steps: a reading, and what follows from it ----------------------------------------

    def step_worked(self) -> None:
        """A step has ended in order."""
        self._store.worked(self._readings)
        for told in (*_REFUSALS, "reconciling"):
            self._refusals.worked(told)
            self._defects.worked(told)

    def lease_lost(self, error: BaseException) -> None:
        """The store has answered that the lease is lost."""
        self._store.worked(self._readings)
        self._refusals.failed(_LEASE_LOST, error)

    def id_taken(self, error: BaseException) -> None:
        """The store has answered that another process has this member's id."""
        self._store.worked(self._readings)
        self._refusals.failed(_ID_TAKEN, error)

    def step_failed(self, error: BaseException) -> None:
        """The store has not answered."""
        self._store.failed(self._readings, error)

    def step_broke(self, error: BaseException) -> None:
        """A step raised what no driver may raise."""
        self._defects.failed("reconciling", error, trace=True)

    # ---- why nothing moves -----------------------------------------------------------------

    def problems(self, found: Mapping[str, str]) -> None:
        """Say which records cannot be read, once.

        Args:
            found: what is wrong, by member id.
        """
        text = "; ".join(found.values())
        if text and text != self._last_problem:
            log.error("%s: nobody gains slots while these members live: %s", self._group, text)
        self._last_problem = text

    def strangers(self, waits_for: Mapping[str, str], *, settled: bool) -> None:
        """Say once for whom this member waits, and once that it goes on.

        Args:
            waits_for: how each stranger in the way differs, by its id.
            settled: this member is.
        """
        strangers, now = frozenset(waits_for), clock.boottime()
        if strangers - self._strangers and (not self._strangers or now >= self._named_again):
            self._named_again = now + _NAME_AGAIN
            log.error(
                "%s: %s waits for %d members that differ to leave: %s",
                self._group,
                self._member,
                len(strangers),
                "; ".join(
                    f"{id!r:.200} has {waits_for[id]}" for id in sorted(strangers)[:_MOST_NAMED]
                ),
            )
        elif self._strangers and not strangers and settled:
            log.warning("%s: %s goes on: those that differ have left", self._group, self._member)
        else:
            return  # One that comes and goes is named once, until this member has settled again.
        self._strangers = strangers

    def away(self, found: Mapping[tuple[str, str], tuple[float, float]]) -> None:
        """Say once of each member that was away for how long nobody worked its share.

        Args:
            found: since when and until when, in wall-clock seconds, by member and incarnation.
        """
        for place, (since, until) in list(found.items()):
            if place not in self._away:
                self._away.add(place)
                is_own = place[0] == self._member
                log.warning(
                    "%s: %s %s: nobody worked its share for %.1f s",
                    self._group,
                    self._member,
                    "is back" if is_own else f"takes over from {place[0]!r:.200}, which is away",
                    until - since,
                )

    def memory(self, age: float, *, gains: bool) -> None:
        """Say where the whole group stands still, because its store is young.

        Args:
            age: seconds for which the store has surely forgotten nothing.
            gains: this member would gain slots; who only watches does not in any case.
        """
        young = not age >= self._ttl
        if young and not self._stands_still and gains:
            log.warning(
                "%s: %s stands still: %s has been known for %.1f s only, and may have forgotten "
                "members of before; nobody gains slots for %.1f s (a store's first group waits for "
                "one ttl, once)",
                self._group,
                self._member,
                self._url,
                age,
                self._ttl - age,
            )
        self._stands_still = young
