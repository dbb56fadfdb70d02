"""The choreography of one member: read, observe, decide, act, confirm. The one copy of its order.

Whoever runs a member asks :meth:`Runner.next` what to do, does it, and says how it ended. So
``Partition``'s threads, the simulator and the exhaustive search go through the very same lines:
what is judged is what runs. The calls themselves, the clocks and the lock are the caller's; a
:class:`Runner` is a plain value that can be copied between any two steps, which a generator could
not be, and the search branches there.

What the order must keep, and why:

* a reading begins after the answer to the write before it: older evidence is worthless (rule 2);
* a write is confirmed when its call has returned, and not before: until then the store may show
  what was there (rule 1);
* a call that failed may have arrived: nothing is confirmed, and the group is read again;
* a heartbeat counts from before its call (rule 3).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Sequence

from hashring.errors import LeaseLost
from hashring.protocol.actions import Action, Join, Publish, Wait
from hashring.protocol.handoff import Handoff
from hashring.protocol.reading import Reading
from hashring.protocol.streams import (
    given_up_windows,
    label_time,
    newest_start,
    pending_windows,
)
from hashring.protocol.windows import Stream

__all__ = ["Beat", "Read", "Runner", "Step"]


@dataclasses.dataclass(frozen=True, slots=True)
class Read:
    """Call ``driver.read``, then :meth:`Runner.learn`.

    Attributes:
        token: tells when the reading began.
    """

    token: int


Step = Read | Action


@dataclasses.dataclass(frozen=True, slots=True)
class Beat:
    """Call ``driver.heartbeat``, then :meth:`Runner.confirm_beat`.

    Attributes:
        token: the lease that it is for; negative without a lease to renew.
        incarnation: of that lease.
        began: local time in seconds, before the call.
    """

    token: int
    incarnation: str
    began: float


class Runner:
    """What one member does next, and what follows from how it went.

    The loop that a caller writes; each call of a method is under the caller's lock, and no call of
    the driver is::

        while True:
            step = runner.next()
            try:
                if isinstance(step, Read):
                    reading = driver.read(group)
                    runner.learn(reading, now=boottime(), wall=time(), streams=streams)
                elif isinstance(step, Join | Publish):
                    number = ...           # driver.join or driver.publish, with step.record
                    runner.confirm(now=boottime(), wall=time(), streams=streams, number=number)
                elif isinstance(step, Wait):
                    ...                    # until the group may have changed
                else:
                    break                  # Leave: handoff.left(), then driver.leave
            except HashringError as error:
                runner.fail(error)

    and, in another thread, :meth:`beat`, ``driver.heartbeat()``, :meth:`confirm_beat` or
    :meth:`fail_beat`.

    Args:
        handoff: decides. It has not been started.
    """

    def __init__(self, handoff: Handoff) -> None:
        self.handoff = handoff
        self._step: Step | None = handoff.start()

    @property
    def step(self) -> Step | None:
        """The step in hand, which has neither been confirmed nor failed; ``None``: a reading is
        the next one.
        """
        return self._step

    def next(self) -> Step:
        """Return what to do now. A step in hand is returned again; a reading begins anew."""
        step = self._step
        if step is None or isinstance(step, Read):
            step = self._step = Read(self.handoff.reading_begins())
        elif isinstance(step, Wait):
            self._step = None  # nothing will have to be confirmed
        return step

    def learn(
        self,
        reading: Reading,
        *,
        now: float,
        wall: float,
        streams: Sequence[Stream] = (),
        worked: bool | None = None,
    ) -> bool:
        """Take in what ``driver.read`` returned: observe, then decide.

        Args:
            reading: the answer to the :class:`Read` in hand.
            now: local time in seconds (a clock that never steps).
            wall: the wall clock in seconds.
            streams: this member's loops over windows.
            worked: this member has started a window; ``None``: as the streams say.

        Returns:
            Whether slots were gained.

        Raises:
            GroupMismatch: this member cannot take part.
        """
        step, handoff = self._step, self.handoff
        if not isinstance(step, Read):
            raise _out_of_order("a reading", step)
        label = label_time(streams, wall)
        if worked is None:
            worked = newest_start(streams) > -math.inf
        handoff.observe(reading, step.token, now=now, wall=label, worked=worked)
        losing = handoff.losing
        self._step = handoff.decide(
            now=now,
            wall=label,
            pending=pending_windows(streams, label, losing),
            given_up=given_up_windows(streams, label, losing),
        )
        return self.share_gains(wall, streams)

    def confirm(
        self,
        *,
        now: float,
        wall: float,
        streams: Collection[Stream] = (),
        number: int | None = None,
    ) -> bool:
        """Note that ``driver.join`` or ``driver.publish`` has returned.

        Args:
            now: local time in seconds, after the call.
            wall: the wall clock in seconds.
            streams: this member's loops over windows.
            number: what ``driver.publish`` returned.

        Returns:
            Whether slots were gained.
        """
        step, self._step = self._step, None
        if isinstance(step, Join):
            self.handoff.joined(now)
        elif isinstance(step, Publish):
            self.handoff.published(number)
        else:
            raise _out_of_order("a confirmation", step)
        return self.share_gains(wall, streams)

    def fail(self, error: BaseException) -> None:
        """Note that the step in hand failed, or that its outcome is unknown: read again."""
        self._step = None
        if isinstance(error, LeaseLost):
            self.handoff.lease_lost()

    def share_gains(self, wall: float, streams: Collection[Stream]) -> bool:
        """Tell all loops over windows what was gained; return whether anything was."""
        gains = self.handoff.take_gains()
        if gains:
            for stream in streams:
                stream.gain(gains, wall)
        return bool(gains)

    # ---- heartbeats ------------------------------------------------------------------------

    def beat(self, now: float) -> Beat:
        """Return the heartbeat to call, at local time ``now``: before the call."""
        return Beat(self.handoff.heartbeat_begins(), self.handoff.incarnation, now)

    def confirm_beat(self, beat: Beat) -> None:
        """Note that ``driver.heartbeat`` has returned: the lease runs on from its beginning."""
        self.handoff.heartbeat_confirmed(beat.token, beat.began)

    def fail_beat(self, beat: Beat, error: BaseException) -> None:
        """Note that a heartbeat failed: a lease that is lost is not the next one."""
        if isinstance(error, LeaseLost):
            self.handoff.lease_lost(beat.token)


def _out_of_order(what: str, step: Step | None) -> RuntimeError:
    return RuntimeError(f"{what} where the step in hand is {step!r:.100}: call next() first")
