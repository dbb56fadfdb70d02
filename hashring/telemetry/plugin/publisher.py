"""Publisher: samples -> one kind of sink. A plug-in is a subclass.

This module knows samples, but no sink.
"""

from __future__ import annotations

import abc
import errno
import logging
import socket
from collections.abc import Sequence
from typing import Any, ClassVar

from hashring.telemetry.errors import OutputFailed, SinkUnusable
from hashring.telemetry.model.batch import Batch
from hashring.telemetry.model.sample import Sample
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.plugin.sink_url import typed_options
from hashring.url import Option, masked

__all__ = ["Publisher", "unopened"]

log = logging.getLogger(__name__)


class Publisher(abc.ABC):
    """Takes samples away. A plug-in is a subclass under the entry-point group
    ``hashring.publishers``, named by the scheme that it serves (``file``, ``stdout``).

    :meth:`publish` is called by one thread at a time. What has a network in it has a timeout.

    Args:
        url: the sink, whole: ``file:///var/log/samples.jsonl?max_bytes=1000000``.
        settings: what the agent is told to do.

    Attributes:
        url: the sink with its secrets masked, for messages.
        settings: what the agent is told to do.
        refused: samples that the sink will never take, and that were therefore set aside.
        options: what may stand behind the ``?`` of its URL; for messages and documentation.

    Raises:
        BadURL: the URL cannot be parsed, or an option in it is unknown or ill-typed.
        OutputFailed: the sink cannot be used now; :class:`SinkUnusable`: not before somebody
            mends something.
    """

    options: ClassVar[tuple[Option, ...]] = ()
    refused: int = 0

    def __init__(self, url: str, settings: Settings) -> None:
        self.url = masked(url)
        self.settings = settings
        self._causes: set[str] = set()

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        # Who refines a publisher by what it does with samples means what an agent hands over too.
        if "publish" in cls.__dict__ and "publish_batches" not in cls.__dict__:
            cls.publish_batches = Publisher.publish_batches  # type: ignore[method-assign]

    @classmethod
    def check(cls, url: str) -> None:
        """Check a sink's URL without going there, so that a wrong one is told at the start.

        Raises:
            BadURL: it has an option that is unknown or ill-typed.
        """
        if cls.options:  # a plug-in that declares none may read its URL by itself
            typed_options(url.partition("?")[2], cls.options, masked(url))

    @abc.abstractmethod
    def publish(self, samples: Sequence[Sample]) -> None:
        """Hand over samples; when it returns, the sink has taken them or will never take them.

        A sample that the sink refuses for good, whatever is done, is counted in :attr:`refused`
        and logged; it does not hold up the others.

        Raises:
            OutputFailed: some or all could not be handed over; the same call may succeed later.
                What was taken the first time may then be taken twice: a sample's id tells.
            OutputClosed: nobody will take any more.
        """

    def publish_batches(self, batches: Sequence[Batch]) -> None:
        """Hand over samples as columns: what an agent calls. As of :meth:`publish`, otherwise.

        Here each sample becomes an object for :meth:`publish`. Who writes columns overrides this.
        """
        self.publish([sample for batch in batches for sample in batch])

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of the sink. Idempotent."""

    def release(self) -> None:
        """Let go of a sink that was made to see whether it can be, and of what that has made."""
        self.close()

    def set_aside(self, samples: Sequence[Sample], cause: str, detail: str) -> None:
        """Count samples that the sink will never take; log the first of each cause.

        Args:
            samples: what is given up.
            cause: a few words, the same each time: each cause is logged once.
            detail: what the log says besides.
        """
        self.refused += len(samples)
        if samples and cause not in self._causes:
            self._causes.add(cause)
            first = samples[0]
            log.error(
                "%s will never take the sample %s (%s of %s), %s: %s; it is given up "
                "(further ones are counted, not logged)",
                self.url,
                first.id,
                first.meter.name,
                first.resource_id,
                cause,
                detail,
            )


_HEALS = frozenset(
    (
        *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EINTR, errno.EAGAIN),
        *(errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ETIMEDOUT),
    )
)
"""Errors of the system that may be over at the next try, without anybody's doing."""


def unopened(message: str, error: OSError, *, is_held_by_agent: bool = False) -> OutputFailed:
    """Return the error that a sink cannot be opened: one that heals by itself, or one that cannot.

    Args:
        message: where, why, and what to do.
        error: as the system raised it.
        is_held_by_agent: as of :class:`SinkUnusable`.
    """
    if isinstance(error, socket.gaierror):
        heals = error.errno in (socket.EAI_AGAIN, socket.EAI_MEMORY)
    else:
        heals = error.errno in _HEALS
    if heals:
        return OutputFailed(message)
    return SinkUnusable(message, is_held_by_agent=is_held_by_agent)
