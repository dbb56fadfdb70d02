"""One operation on a group: the script run on the server that counts, again where that is safe.

Here a driver learns of a server that was replaced, of a clock that was stepped, and of an older
copy that was put back; see the first lines of :mod:`.driver`. It knows no member's business.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import redis

from hashring.clock import boottime
from hashring.driver import Driver

from .._server_clock import ServerClock
from .nodes import Deadline, Node, NotVouched
from .routes import PlainRoute, Route
from .script import PARTS, SAME, SCRIPT, SHA1
from .state import Group, Known, Own, Reply

__all__ = ["Calls"]

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")

_REDIRECTIONS = 5
_SEIZED = -2
"""What the script says of a lease that is another's now: it was seized."""

_SILENCE = 60.0  # seconds between two warnings about one server's clock

# What passes by itself, or by asking another server.
_PASSING = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.ReadOnlyError,
    redis.exceptions.MasterDownError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.TryAgainError,
    redis.exceptions.AskError,
    NotVouched,
    OSError,
)


class Calls:
    """Runs the script for one driver, and keeps what its answers told.

    Args:
        driver: for its URL, its settings and the words of its errors.

    Attributes:
        route: the way to the servers while the driver is open.
        lock: keeps :attr:`route`, :attr:`groups` and :attr:`own`.
        groups: what is known of each group.
        own: the driver's leases, by group and member.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.route: Route | None = None
        self.lock = threading.Lock()
        self.groups: dict[str, Group] = {}
        self.own: dict[tuple[str, str], Own] = {}
        self._warned = -math.inf  # when its clock was last complained of

    def opened(self) -> Route:
        """Return the route.

        Raises:
            StoreUnavailable: the driver is not open.
        """
        route = self.route
        if route is None:
            raise self._driver.not_open()
        return route

    def deadline(self) -> Deadline:
        """Return the end of a call that begins now."""
        return Deadline(self._driver.settings["timeout"])

    def group(self, group: str) -> Group:
        """Return what is known of a group."""
        with self.lock:
            if group not in self.groups:
                self.groups[group] = Group(self._driver.settings["namespace"], group)
            return self.groups[group]

    def call(
        self,
        doing: str,
        group: str,
        operation: str,
        *arguments: Any,
        vouched: bool = False,
        deadline: Deadline | None = None,
    ) -> Reply:
        """Run one operation, again where that is safe and there is time, and return its reply.

        Every operation may run twice: a write has its sequence number, and the second run of the
        same number changes nothing.
        """
        state = self.group(group)
        end = deadline or self.deadline()

        def run(route: Route) -> Reply:
            node = route.find(state.key, end)
            own = self._leases(group)
            reply = self._run(state, node, [operation, *arguments], own, vouched, end)
            self._judge(group, state, reply, own)
            if state.doubtful:
                reply.since = self._run(state, node, ["doubt"], {}, False, end).since
                state.doubtful = False
            return reply

        return self.trying(doing, state.key, end, run)

    def trying(
        self, doing: str, key: bytes, deadline: Deadline, action: Callable[[Route], _Result]
    ) -> _Result:
        """Try until it succeeds, the tries or the time are used up, or it is no use."""
        route = self.opened()
        redirections = 0
        pauses = self._driver.delays()
        telling: Exception | None = None
        while True:
            try:
                return action(route)
            except redis.AuthenticationError as error:  # to redis-py a ConnectionError
                raise self._driver.unavailable(doing, error) from error
            except redis.exceptions.MovedError as error:
                redirections += 1
                if redirections > _REDIRECTIONS:
                    raise self._driver.unavailable(doing, error) from error
                try:
                    route.moved(key, (error.host, error.port))
                except redis.RedisError as wrong:
                    raise self._driver.unavailable(doing, wrong) from wrong
            except _PASSING as error:
                route.forget(key)
                pause = next(pauses, None)
                if isinstance(error, NotVouched) or telling is None:
                    telling = error  # says more than that there was no time for another try
                if pause is None or deadline.comes_within(pause):
                    raise self._driver.unavailable(doing, telling) from telling
                time.sleep(pause)
            except redis.RedisError as error:
                raise self._driver.unavailable(doing, error) from error

    def _run(
        self,
        state: Group,
        node: Node,
        command: list[Any],
        own: dict[str, Own],
        vouched: bool,
        deadline: Deadline,
    ) -> Reply:
        """Run the script once; where it counts, have others vouch for the server."""
        operation, *arguments = command
        named = "\0".join(f"{lease.token} {member}" for member, lease in own.items())
        known = self._knowledge(state, node.most)
        ttl = int(self._driver.ttl * 1e6)
        command = [*state.keys, operation, ttl, *known, named, *arguments]
        same = known[0], known[-1]
        wanted = self._wanted(node) if vouched else 0
        waited = wanted if wanted <= node.replicas else 0  # who is not there is not waited for
        reply, acks = self._evaluate(node, command, same, waited, deadline)
        own_ends = reply.own  # before anything was done about them
        node.replicas, node.most = reply.online, max(node.most, reply.most)
        if not vouched:
            return reply
        wanted = max(wanted, self._wanted(node))
        if waited < wanted <= node.replicas:
            # There are more replicas than at the last time. Twice is as good as once.
            reply, acks = self._evaluate(node, command, same, wanted, deadline)
            reply.own = own_ends
        acked = acks >= wanted
        if not wanted and self._driver.settings["replicas"] is None:
            self.opened().vouch(state.key, node, None, deadline)
        else:
            self.opened().vouch(state.key, node, acked, deadline)
        return reply

    def _wanted(self, node: Node) -> int:
        """Return how many replicas must confirm: with the server itself, more than half.

        Where nobody else can tell that a server was replaced, more than half of all that it ever
        listed: to one that was, the others are gone, or follow another.
        """
        configured: int | None = self._driver.settings["replicas"]
        if configured is not None:
            return configured
        listed = node.most if isinstance(self.route, PlainRoute) else node.replicas
        return (listed + 1) // 2

    def _evaluate(
        self,
        node: Node,
        command: list[Any],
        named: tuple[bytes, bytes],
        replicas: int,
        deadline: Deadline,
    ) -> tuple[Reply, int]:
        """Run the script; return its answer, and how many replicas confirmed it.

        Args:
            node: the server.
            command: the keys and arguments of the script.
            named: the epoch and the mark in them, which the answer does not repeat.
            replicas: how many are to confirm.
            deadline: of the call.
        """
        # Half of what is left, so that there is an answer even where the replicas have none.
        milliseconds = max(1, int(deadline.left() * 500))
        wait = [("WAIT", replicas, milliseconds)] if replicas else []
        began = boottime()
        answers = node.ask([("EVALSHA", SHA1, len(PARTS), *command), *wait], deadline)
        if isinstance(answers[0], redis.exceptions.NoScriptError):
            began = boottime()
            answers = node.ask([("EVAL", SCRIPT, len(PARTS), *command), *wait], deadline)
        for answer in answers:
            if isinstance(answer, redis.RedisError):
                raise answer
        status, *told = answers[0]
        head, rest = told[:12], told[12:]  # what is in every answer, and what is in this one
        reply = Reply(node, status.decode(), *(*head, rest, began, boottime()))
        epoch, mark = named
        if reply.epoch == SAME:
            reply.epoch = epoch
        if reply.mark == SAME:
            reply.mark = mark
        return reply, answers[1] if replicas else 0

    def _leases(self, group: str) -> dict[str, Own]:
        """Return copies of this driver's leases in a group, as they were confirmed by now."""
        with self.lock:
            return {
                member: dataclasses.replace(lease)
                for (of, member), lease in self.own.items()
                if of == group
            }

    def _judge(self, group: str, state: Group, reply: Reply, own: dict[str, Own]) -> None:
        """Compare an answer with what was known before, and doubt the store where they part."""
        if reply.back:
            _log.warning(
                "%s: the group %r went back in time: somebody put an older copy of its keys back. "
                "Its members stand still for one ttl, then go on",
                self._driver.url,
                group,
            )
        elif shortened := self._shortened(group, reply, own):
            state.doubtful = True
            _log.warning(
                "%s: the store lost a part of the lease of %r in group %r, which it had confirmed: "
                "an older copy of the keys was put back, or the server's clock was set back. The "
                "members stand still for one ttl, then go on",
                self._driver.url,
                shortened,
                group,
            )
        if gained := self._gained(state, reply):
            state.doubtful = True
            if boottime() - self._warned > _SILENCE:
                self._warned = boottime()
                _log.warning(
                    "%s: the server's clock gained %.2f s on ours within a lease of %g s: it was "
                    "stepped forward, or runs more than 10%% fast. Waiting one ttl",
                    self._driver.url,
                    gained,
                    self._driver.ttl,
                )

    def _shortened(self, group: str, reply: Reply, own: dict[str, Own]) -> str | None:
        """Return whose confirmed lease the store had not, or not for so long, before it ran out.

        Where there are several, one stands for all.
        """
        found = None
        for (member, then), ends in zip(own.items(), reply.own, strict=True):
            if ends < then.ends and reply.now < then.ends and ends != _SEIZED:
                with self.lock:
                    now = self.own.get((group, member))
                    # One that this driver has left or joined anew meanwhile says nothing.
                    if now is not None and self.same_lease(now, then):
                        now.ends = 0  # said once
                        found = found or member
        return found

    def _gained(self, state: Group, reply: Reply) -> float:
        """Return by how many seconds the server's clock gained too much; note what is known now."""
        with self.lock:
            known = state.known
            same = reply.epoch == known.epoch
            if reply.version >= known.version if same else reply.began >= known.at:
                state.known = Known(reply.epoch, reply.version, reply.mark, reply.began)
            if state.clock is None or state.clock[0] != reply.epoch:
                state.clock = reply.epoch, ServerClock(self._driver.ttl)
            return state.clock[1].gained(reply.now / 1e6, reply.began, reply.ended)

    def _knowledge(self, state: Group, most: int) -> tuple[bytes, int, int, int, bytes]:
        """Return what the script is told: the epoch, the latest that its server's time may be now,

        the most replicas ever listed, a version of that epoch, and its mark.
        """
        with self.lock:
            known, clock = state.known, state.clock
            latest = -math.inf
            if clock is not None and clock[0] == known.epoch:
                latest = clock[1].latest(boottime())
        microseconds = int(latest * 1e6) if latest > -math.inf else 0
        return known.epoch, microseconds, most, known.version, known.mark

    @staticmethod
    def same_lease(now: Own | None, then: Own) -> bool:
        """Return whether a lease is the one that it was."""
        return now is not None and (now.token, now.incarnation) == (then.token, then.incarnation)
