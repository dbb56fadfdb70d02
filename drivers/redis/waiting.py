"""How the Redis driver hears that a group has changed: a message, or a look now and then."""

from __future__ import annotations

import logging
import math
import time

import redis

from hashring.clock import boottime
from hashring.driver import Driver

from .._waker import Waker
from .calls import Calls
from .nodes import Deadline
from .state import NOWHERE, Group, Subscription

__all__ = ["Waiting"]

_log = logging.getLogger(__name__)

_LEAST = 0.25  # seconds for a call that waits for news, where its wait has less left


class Waiting:
    """Waits for one driver.

    Args:
        driver: for its URL and its settings.
        calls: by which it asks.
    """

    def __init__(self, driver: Driver, calls: Calls) -> None:
        self._driver = driver
        self._calls = calls
        self.waker = Waker()

    def until_changed(self, group: str, state: Group, deadline: float) -> None:
        """Return when the group has changed since it was read, on the deadline, or when closed.

        Also where the :attr:`waker` was set meanwhile.

        Args:
            group: its id.
            state: what is known of it; its ``waiting`` is the caller's.
            deadline: in seconds on the boot-time clock.
        """
        poll = self._driver.settings["poll"]
        next_look = boottime() + poll
        next_subscribe = 0.0
        if self._announced(state):
            return
        # In a large group, what changes soon after a message is not announced: whoever read in
        # that time reads again when it is over.
        held = state.held or math.inf
        listening = state.subscription is not None
        while self._calls.route is not None:
            now = boottime()
            if self.waker.taken() or now >= deadline or state.place is NOWHERE:
                return
            if now >= held:
                state.held = 0.0
                return
            if state.subscription is None and now >= next_subscribe:
                next_subscribe = now + poll
                if self._subscribe(state, self._within(deadline)):
                    next_look = now  # what was said before we listened
            if now >= min(next_look, state.ends):
                reply = self._calls.call("wait", group, "look", deadline=self._within(deadline))
                if (reply.epoch, reply.version) != (state.place.epoch, state.place.version):
                    if listening and state.subscription is not None:
                        if reply.epoch == state.place.epoch:
                            state.subscription.owed = reply.said
                        else:
                            self.unsubscribe(state)
                    return
                listening = state.subscription is not None
                state.ends = reply.ends_on_our_clock()
                if reply.held:
                    held = min(held, reply.ended + reply.held / 1e6)
                next_look = boottime() + poll
                if state.subscription is not None and reply.node is not state.subscription.node:
                    next_subscribe = 0.0
                    self.unsubscribe(state)
                    continue
            until = min(next_look, state.ends, held, deadline) - boottime()
            if self._hear(state, until):
                return

    def _announced(self, state: Group) -> bool:
        """Return whether a change was announced since the last reading.

        A subscription that did not announce what an earlier wait found by asking is dropped: it may
        be half open. Its message has had the time of a reading since then.
        """
        if state.subscription is None:
            return False
        before = state.subscription.last
        try:
            silent = state.subscription.fell_silent()
        except (redis.RedisError, OSError, ValueError):
            silent = True
        if silent:
            self.unsubscribe(state)
            return False
        # One from before may be of another epoch, whose versions were higher.
        return state.subscription.last != before and state.subscription.last > state.place.version

    def _hear(self, state: Group, seconds: float) -> bool:
        """Return whether a message told of a version that was not read yet."""
        if state.subscription is None:
            # Without the right to subscribe, or while the server is away: a short poll.
            time.sleep(max(0.0, min(seconds, 0.05)))
            state.ends = 0.0
            return False
        try:
            version = state.subscription.heard(max(0.0, seconds), self.waker)
        except (redis.RedisError, OSError, ValueError):
            self.unsubscribe(state)
            return False
        return version is not None and version > state.place.version

    def _within(self, end: float) -> Deadline:
        """Return the deadline of a call in a wait until ``end``, or a little later."""
        return Deadline(min(self._driver.settings["timeout"], max(end - boottime(), _LEAST)))

    def _subscribe(self, state: Group, deadline: Deadline) -> bool:
        route = self._calls.route
        if route is None:
            return False
        try:
            subscription = Subscription(route.find(state.key, deadline), state.key, deadline)
        except (redis.RedisError, OSError) as error:
            _log.debug(
                "%s: no messages, polling instead: %s",
                self._driver.url,
                self._driver.url.hide(str(error)),
            )
            return False
        state.subscription = subscription
        if self._calls.route is None:  # closed meanwhile: nobody wakes us again
            self.unsubscribe(state)
            return False
        return True

    @staticmethod
    def unsubscribe(state: Group) -> None:
        """Close the connection that hears of a group's changes, where there is one."""
        subscription, state.subscription = state.subscription, None
        if subscription is not None:
            subscription.close()
