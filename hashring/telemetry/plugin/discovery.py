"""Discovery: which resources there are now. A plug-in is a subclass.

A discovery finds, it does not measure. Members of one group must find the same resources under
the same ids, or some will be polled by nobody; a resource that just one member has seen yet is
polled once its owner has seen it too. This module knows no member, meter or window.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable

from hashring.telemetry.model.resource import Resource
from hashring.telemetry.model.settings import Settings

__all__ = ["Discovery"]


class Discovery(abc.ABC):
    """Finds resources. A plug-in is a subclass under the entry-point group
    ``hashring.discoveries``; a source names it by its entry point's name, with or without a
    parameter: ``interface``, ``http-targets:///etc/targets.json``.

    It is made once an agent, and is asked by one thread at a time for each parameter.

    Args:
        settings: what the agent is told to do.

    Attributes:
        is_local: it finds what belongs to this host, which agents of other hosts do not see. The
            group that shares it is then this host's own.
        finds_addresses: what it finds is reached over the network. A resource at a loopback or
            link-local address is then each host's own.
        scope: tells apart agents that find different resources under one name and parameter,
            e.g. on different hypervisors: those of one scope share a group.

    All may be attributes of the object instead.
    """

    is_local: bool = False
    finds_addresses: bool = False
    scope: str = ""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @abc.abstractmethod
    def discover(self, parameter: str = "") -> Iterable[Resource]:
        """Return the resources that there are now. Called before each cycle's polls.

        Where nothing has changed since the last call, return the very same object: its keys are
        then not hashed again.

        Args:
            parameter: what a source gives after ``NAME://``; empty where it gives nothing.

        Raises:
            Exception: is logged once per cause. The resources that were found last are polled on;
                where there were none, it costs this discovery's resources alone.
        """
