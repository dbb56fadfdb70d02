"""Agent: runs a pipeline on a Partition: each window, its own share, each resource once.

The loop is the one that any user of :func:`hashring.join` writes. Who owns what, and in which
window, is the Partition's to say; what is measured, the pipeline's; where samples go, the
publisher's. This room only keeps the order: own, poll, check, publish.
"""

from __future__ import annotations

import logging
import os
import threading
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

from hashring import clock
from hashring.cycle import Cycle
from hashring.errors import MemberExists
from hashring.partition import Partition, join
from hashring.telemetry import machine, plugins
from hashring.telemetry.config import AgentConfig
from hashring.telemetry.discovery import Discovery
from hashring.telemetry.pipeline import Pipeline
from hashring.telemetry.pollsters import Pollster
from hashring.telemetry.publishers import OutputClosed, OutputFailed, Publisher
from hashring.telemetry.resource import Resource
from hashring.telemetry.sample import Sample
from hashring.telemetry.settings import Settings
from hashring.telemetry.status import Status, StatusFile

__all__ = ["Agent"]

log = logging.getLogger(__name__)

_BATCH = 256
"""Resources whose samples are published together. What is polled but not yet published is lost
when the process is killed, so a cycle is published in parts; and each part is one write."""

_RETRY_JOIN = 0.25
"""Seconds between two tries to join while a former agent's lease runs out."""


class Agent:
    """One agent: joins its group, polls its share each window, and hands over when told to stop.

    The loop, without the care for what fails::

        with hashring.join(url, group, member=member, ttl=ttl) as partition:
            for cycle in partition.cycles(interval):
                found = pipeline.discover()
                for id in cycle.owned(found):
                    samples += pipeline.poll(found[id])
                if cycle.valid:
                    publisher.publish(samples)

    Args:
        config: what it is told to do.
        pipeline: what finds and measures; by default every plug-in that is installed.
        publisher: what takes the samples; by default what ``config.output`` says.

    Raises:
        HashringError: the configuration, a plug-in or the output cannot be used.
    """

    def __init__(
        self,
        config: AgentConfig,
        *,
        pipeline: Pipeline | None = None,
        publisher: Publisher | None = None,
    ) -> None:
        self.config = config
        self._pipeline = pipeline if pipeline is not None else _installed_pipeline(config)
        self._publisher = publisher if publisher is not None else _publisher(config)
        self._stopping = threading.Event()
        self._partition: Partition | None = None
        self._ended = False
        self._strangers: frozenset[str] = frozenset()
        self._outputs_failed = 0
        self._polls = 0
        self._samples = 0
        self._resources = 0
        self._window: int | None = None
        self._last_poll: float | None = None

    def stop(self) -> None:
        """Let :meth:`run` end after the cycle in hand. From any thread, at any time; idempotent."""
        self._stopping.set()
        partition = self._partition
        if partition is not None:
            partition.stop()

    def status(self) -> Status:
        """Return what there is to say now. From any thread."""
        partition = self._partition
        state = "joining" if partition is None else str(partition.state)
        return Status(
            member=self.config.member,
            pid=os.getpid(),
            state="left" if self._ended else state,
            view_id=None if partition is None else partition.view_id,
            members=() if partition is None else tuple(sorted(partition.members)),
            slots=0 if partition is None or self._ended else len(partition.held),
            resources=self._resources,
            window=self._window,
            last_poll=self._last_poll,
            polls=self._polls,
            samples=self._samples,
            failures=sum(self._pipeline.failures.values()) + self._outputs_failed,
        )

    def run(self) -> None:
        """Join, poll until told to stop or all cycles are done, hand over, leave.

        Returns also when whoever reads the samples has gone: there is nothing more to do.

        Raises:
            HashringError: the group cannot be joined, or no longer be kept to.
        """
        with ExitStack() as stack:
            stack.callback(self._publisher.close)
            if self.config.status_file is not None:
                stack.enter_context(StatusFile(Path(self.config.status_file), self.status))
            partition = self._join()
            if partition is None:
                return
            try:
                with partition:
                    self._poll(partition)
                    if not partition.drain(self.config.drain_timeout):
                        log.warning("the others have not taken over in time: leaving all the same")
            finally:
                self._ended = True
        log.info("%s has left %s", self.config.member, self.config.group)

    def _join(self) -> Partition | None:
        config = self.config
        deadline = clock.boottime() + config.patience
        while not self._stopping.is_set():
            try:
                partition = join(
                    config.backend_url,
                    config.group,
                    member=config.member,
                    ttl=config.ttl,
                    meta={"role": "agent", "host": machine.host_id(), "pid": os.getpid()},
                )
            except MemberExists:
                if clock.boottime() >= deadline:
                    raise
                self._stopping.wait(_RETRY_JOIN)
                continue
            log.info("%s joins %s", config.member, config.group)
            self._partition = partition
            if self._stopping.is_set():
                partition.stop()
            return partition
        return None

    def _poll(self, partition: Partition) -> None:
        windows: set[int] = set()
        config = self.config
        with partition.cycles(config.interval, on_crash=config.on_crash) as cycles:
            for cycle in cycles:
                assert cycle.window is not None
                self._look_for_strangers(partition)
                try:
                    self._work(cycle, cycle.window)
                except OutputClosed as end:
                    log.info("%s: nothing more to do", end)
                    return
                if config.cycles is not None:
                    windows.add(cycle.window)
                    if len(windows) >= config.cycles:
                        return

    def _look_for_strangers(self, partition: Partition) -> None:
        """Say so where agents of other hosts share this group: they own what they cannot see."""
        here = machine.host_id()
        hosts = {record.meta.get("host") for record in partition.records.values()}
        strangers = frozenset(str(host) for host in hosts if host not in (here, None))
        if strangers - self._strangers:
            log.error(
                "agents on %s share the group %r: what they own of %s's resources nobody polls; "
                "give each host a group of its own",
                ", ".join(sorted(strangers)),
                self.config.group,
                here,
            )
        self._strangers = strangers

    def _work(self, cycle: Cycle, window: int) -> None:
        found = self._pipeline.discover()
        self._pipeline.observe()
        batch: list[Sample] = []
        waiting = published = 0
        self._note(window, 0)
        for resource_id in cycle.owned(list(found)):
            samples = self._measure(found[resource_id], cycle, window)
            batch.extend(samples)
            waiting += bool(samples)
            if waiting == _BATCH:
                published += self._publish(batch, waiting, cycle)
                batch, waiting = [], 0
        published += self._publish(batch, waiting, cycle)
        self._note(window, published)

    def _note(self, window: int, polls: int) -> None:
        """Keep what there is to say of the newest window; one can come in several cycles."""
        if self._window is None or window > self._window:
            self._window, self._resources = window, 0
        if window == self._window:
            self._resources += polls
        if polls:
            self._last_poll = clock.wall()

    def _measure(self, resource: Resource, cycle: Cycle, window: int) -> list[Sample]:
        measured = self._pipeline.poll(resource)
        now = clock.wall()
        return [
            Sample(
                meter=measurement.meter,
                volume=measurement.volume,
                resource_id=resource.id,
                timestamp=now,
                window=window,
                interval=self.config.interval,
                member=self.config.member,
                token=tuple(cycle.token),
            )
            for measurement in measured
        ]

    def _publish(self, samples: list[Sample], polls: int, cycle: Cycle) -> int:
        """Publish what ``polls`` polls gave; return how many of them that were."""
        if not samples:
            return 0
        # The last look before the samples go out. If the fence has passed since they were
        # taken, another member may have polled the same resources: better a gap than a repeat.
        if not cycle.valid:
            log.warning(
                "the lease ran out within window %s: %d samples are dropped",
                cycle.window,
                len(samples),
            )
            return 0
        try:
            self._publisher.publish(samples)
        except OutputFailed as error:
            self._outputs_failed += polls
            if self._outputs_failed == polls:
                log.error("%s (further ones are counted, not logged)", error)  # noqa: TRY400
            return 0
        self._polls += polls
        self._samples += len(samples)
        return polls


def _installed_pipeline(config: AgentConfig) -> Pipeline:
    return Pipeline(
        plugins.make_all(plugins.DISCOVERIES, Discovery),  # type: ignore[type-abstract]
        plugins.make_all(plugins.POLLSTERS, Pollster),  # type: ignore[type-abstract]
        only=config.resources,
    )


def _publisher(config: AgentConfig) -> Publisher:
    url = config.output
    if url == "-":
        url = "stdout://"
    if "://" not in url:
        url = f"file://{quote(url)}"
    settings = Settings(
        backend_url=config.backend_url, member=config.member, host=machine.host_id(), output=url
    )
    scheme = url.partition("://")[0]
    kind = plugins.load(plugins.PUBLISHERS, scheme, Publisher)  # type: ignore[type-abstract]
    return kind(url, settings)
