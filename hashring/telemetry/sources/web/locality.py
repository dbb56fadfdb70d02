"""Locality: which resources are each host's own, because their address is another's on each host.

Agents of several hosts share what all of them reach alike. What stands at a loopback or link-local
address is not shared: each host's agents poll their own, under an id that has the host's name.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
import threading
from collections.abc import Callable, Iterable
from types import MappingProxyType
from urllib.parse import urlsplit

from hashring.telemetry.model.resource import Resource
from hashring.telemetry.sources.web.targets import url_of

__all__ = ["Halves", "is_own", "localized"]

log = logging.getLogger(__name__)

_NAMES = frozenset(
    {"localhost", "localhost.localdomain", "localhost4", "localhost6"}
    | {"ip6-localhost", "ip6-loopback"}
)


# A host that begins with a letter is a name, and no spelling of an address. There may be very many,
# and to take each address apart costs ten times as much as to see that.
_NAMED = re.compile(r"https?://([a-zA-Z][a-zA-Z0-9.-]*)(?::[0-9]+)?(?:[/?#]|\Z)", re.ASCII)


def _is_own_name(host: str) -> bool:
    return host in _NAMES or host.endswith(".localhost")


def is_own(resource: Resource) -> bool:
    """Return whether a resource's address is another one's on each host.

    Example:
        >>> [is_own(Resource(f"http://{host}/", "http")) for host in ("127.1", "[fe80::1]", "web1")]
        [True, True, False]
    """
    url = url_of(resource)
    named = _NAMED.match(url)
    if named is not None:
        return _is_own_name(named[1].lower().rstrip("."))
    try:
        host = urlsplit(url if "://" in url else f"//{url}").hostname or ""
    except ValueError:
        return False
    host = host.rstrip(".").partition("%")[0]
    if _is_own_name(host):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        try:
            # As the system's resolver does: 127.1, 0x7f.1 and the like are addresses.
            address = ipaddress.ip_address(socket.inet_aton(host))
        except (OSError, ValueError):
            return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_link_local or mapped.is_unspecified)


def localized(resource: Resource, host: str) -> Resource:
    """Return a resource as this host's own: its id begins with the host's name.

    Example:
        >>> own = localized(Resource("http://127.0.0.1/a", "http"), "web1")
        >>> own.id, url_of(own)
        ('web1:http://127.0.0.1/a', 'http://127.0.0.1/a')
    """
    if resource.id.startswith(f"{host}:"):
        return resource
    attributes = {"url": url_of(resource), **resource.attributes, "host": host}
    return Resource(f"{host}:{resource.id}", resource.kind, MappingProxyType(attributes))


class Halves:
    """What a discovery finds, in two halves: what is shared, and what is this host's own.

    Each half is returned as the very same object for as long as the discovery returns one.

    Args:
        discover: finds the whole.
        host: this host's id.
        description: of the discovery, for messages.
        local: whether all is each host's own; ``None``: what :func:`is_own` says of each.
    """

    def __init__(
        self,
        discover: Callable[[], Iterable[Resource]],
        host: str,
        description: str,
        local: bool | None,
    ) -> None:
        self._discover = discover
        self._host = host
        self._description = description
        self._local = local
        self._lock = threading.Lock()  # each half is asked for by a group of its own
        self._whole: object = None
        self._halves: dict[bool, tuple[Resource, ...]] = {False: (), True: ()}
        self._polled = frozenset({False, True})
        self._said: set[bool] = set()

    def present(self) -> frozenset[bool]:
        """Return which halves there are to poll: shared (``False``), own (``True``), or both.

        A discovery that finds nothing, or fails, is taken to find what is shared.
        """
        if self._local is not None:
            self._polled = frozenset({self._local})
            return self._polled
        try:
            self.half(False)
        except Exception as error:
            # It is asked again when it is polled, and then it counts as a failure.
            log.warning("%s cannot be looked at yet: %s", self._description, error)
        self._polled = frozenset(own for own, found in self._halves.items() if found) or frozenset(
            {False}
        )
        return self._polled

    def half(self, own: bool) -> tuple[Resource, ...]:
        """Return what is this host's own, or what is shared."""
        with self._lock:
            whole = self._discover()
            if whole is not self._whole or not isinstance(whole, list | tuple):
                found: dict[bool, list[Resource]] = {False: [], True: []}
                for resource in whole:
                    is_local = is_own(resource) if self._local is None else self._local
                    found[is_local].append(
                        localized(resource, self._host) if is_local else resource
                    )
                self._whole = whole
                self._halves = {half: tuple(members) for half, members in found.items()}
                self._say_left_out()
            return self._halves[own]

    def _say_left_out(self) -> None:
        for own, found in self._halves.items():
            if found and own not in self._polled and own not in self._said:
                self._said.add(own)
                what = "at an address that is each host's own" if own else "that hosts share"
                log.warning(
                    "%s now finds a resource %s, %s: such ones are polled once the agent has "
                    "read its files again (reload it)",
                    self._description,
                    what,
                    found[0].id,
                )
