"""PollingLoop: one interval of one group: a thread that works the cycles from first to last.

Which window is due, and what this member owns in it, is the partition's to say. The loop finds out
what there is, has it polled, and notes which windows were worked whole.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Collection
from typing import TYPE_CHECKING

from hashring import clock
from hashring.errors import HashringError
from hashring.partition.cycle import Cycle, Cycles
from hashring.telemetry.config.plan import Loop
from hashring.telemetry.plugin import Pollster
from hashring.telemetry.polling.polls import Polls
from hashring.telemetry.polling.turns import TurnBackoff
from hashring.telemetry.polling.wants import Want, wants_of

if TYPE_CHECKING:
    from hashring.telemetry.polling.runner import Runner

__all__ = ["PollingLoop"]

log = logging.getLogger(__name__)

_LEAST = 0.1
"""The part of a window that a poll is given at least: one that begins later has half a window."""


class PollingLoop:
    """One interval of one group: a thread, from the first window to the last.

    Args:
        runner: the group's.
        loop: what to poll.
        after: the loop of this interval that a reload has ended: its last cycle comes first, or
            the window in hand would be worked by both.
    """

    def __init__(self, runner: Runner, loop: Loop, after: PollingLoop | None = None) -> None:
        self.runner = runner
        self.shared = runner.shared
        self.interval = loop.interval
        self.backoff = TurnBackoff()
        self.update(loop)
        self._after = after
        self._in_hand: tuple[Want, ...] = ()  # of the cycle that is worked now
        self._cycles: Cycles | None = None
        self._done_before: int | None = None  # the newest window that was worked whole by then
        self._clock_steps = 0
        self._ending = False
        self.missed = 0
        self._thread = threading.Thread(
            target=self._run, name=f"poll-{runner.group.name}-{loop.interval:g}", daemon=True
        )

    def start(self) -> None:
        """Begin, once the loop that this one follows has ended."""
        self._thread.start()

    def update(self, loop: Loop) -> None:
        """Poll what a newer plan says, from the next cycle on."""
        self._wants = wants = wants_of(loop)
        pollsters = {want.pollster for want in wants}
        self.backoff.keep_only(lambda key: key[0] in pollsters)

    def works_with(self, pollsters: Collection[Pollster]) -> bool:
        """Whether the cycle in hand uses one of these."""
        return any(want.pollster in pollsters for want in self._in_hand)

    def end(self) -> None:
        """Let the loop end after the cycle in hand."""
        self._ending = True
        cycles = self._cycles
        if cycles is not None:
            cycles.finish()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for its end; return whether it has come."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            if self._after is not None:
                self._after.join()
                self._after = None
            self._iterate()
        except HashringError as error:
            self.runner.fail(error)
        except Exception as error:
            log.exception("polling %s every %g s failed", self.runner.group.name, self.interval)
            self.runner.fail(HashringError(f"{type(error).__name__}: {error}"))
        finally:
            self.runner.loop_ended()

    def _iterate(self) -> None:
        settings = self.shared.settings
        partition = self.runner.partition
        assert partition is not None
        windows: set[int] = set()
        self._done_before = self._look_what_was_done()
        with partition.cycles(self.interval, on_crash=settings.on_crash) as cycles:
            self._cycles = cycles
            if self._ending:
                return
            for cycle in cycles:
                assert cycle.window is not None
                self.missed = cycles.missed
                self._follow_clock()
                if cycle.start < self.runner.since or self._was_done(cycle.window):
                    continue
                self.runner.look_for_strangers()
                self.runner.look_what_is_set_aside()
                self._work(cycle, cycle.window)
                self._in_hand = ()
                if cycle.valid:
                    self._note_done(cycles)
                windows.add(cycle.window)
                if settings.cycles is not None and len(windows) >= settings.cycles:
                    return
            # What others had worked may be this member's by now, and so the window is whole.
            self._note_done(cycles)

    def _follow_clock(self) -> None:
        """After a step of the clock numbers of windows from before it say nothing any more."""
        steps = self.runner.clock_steps
        if steps != self._clock_steps:
            self._clock_steps = steps
            self._done_before = None
            self.runner.follow_clock(steps)

    def _was_done(self, window: int) -> bool:
        """Whether a window was worked whole before this agent joined, by one of this host's."""
        return self._done_before is not None and window <= self._done_before

    def _note_done(self, cycles: Cycles) -> None:
        """Note the newest window if it is done: nobody else holds a slot, and nothing waits."""
        done, partition = self.shared.done, self.runner.partition
        if done is None or partition is None:
            return
        held, window = partition.held, cycles.started_through
        if len(held) == held.slots and window is not None:
            done.note(self.runner.group.name, self.interval, window)

    def _look_what_was_done(self) -> int | None:
        if self.shared.done is None:
            return None
        window = self.shared.done.newest(self.runner.group.name, self.interval)
        # A number from the future was noted while the clock was wrong: it says nothing.
        if window is None or window > clock.wall() / self.interval:
            return None
        return window

    def _work(self, cycle: Cycle, window: int) -> None:
        shared = self.shared
        self._in_hand = wants = self._wants
        self.runner.tally.begin(window, late=clock.wall() - cycle.start)

        def seconds() -> float:
            return self._seconds(cycle)

        def half() -> float:
            # Should a discovery hang, there is still time to poll what was found before.
            return min(self._left(cycle) / 2, seconds())

        keys, resources = self.runner.catalogue.look(half, self.runner)
        polls = Polls(self, cycle, window, seconds)
        by_kind: dict[str, list[Want]] = defaultdict(list)
        for want in wants:
            polls.read(want)
            for kind in want.pollster.kinds:
                by_kind[kind].append(want)
        for id_ in cycle.owned(keys, spread=shared.settings.spread):
            resource = resources[id_]
            for want in by_kind.get(resource.kind, ()):
                polls.add(want, resource)
        polls.finish()
        self.backoff.keep_only(lambda key: key[1] in resources)

    def _seconds(self, cycle: Cycle) -> float:
        """How long a call that begins now may take: it should not outlast its window."""
        return min(
            self._left(cycle), self.shared.settings.poll_timeout, self.runner.seconds_to_end()
        )

    def _left(self, cycle: Cycle) -> float:
        # No more than a window, should the clock have stepped back in this one.
        left = min(cycle.start + self.interval - clock.wall(), self.interval)
        return left if left >= _LEAST * self.interval else self.interval / 2
