"""Reads ``[coordination] backend_url``: tooz's spelling of a store's URL, or ours.

What tooz's options mean here stands in :mod:`hashring.compat.backend_url`.
"""

from __future__ import annotations

from hashring.compat.backend_url import translate
from hashring.errors import BadURL
from hashring.telemetry.errors import BadOption

__all__ = ["BadOption", "is_embedded", "translate_backend_url"]


def translate_backend_url(text: str, heartbeat: float) -> tuple[str, float | None]:
    """Return the store's URL in our spelling, and the lease that it names.

    Args:
        text: as in a ``ceilometer.conf``: tooz's spelling, or ours.
        heartbeat: ``[coordination] heartbeat`` in seconds, which the lease must exceed.

    Returns:
        The URL, and the lease (ttl) in seconds; ``None`` where the URL names none.

    Raises:
        BadOption: it is no URL, has an option that nobody knows or of the wrong type, names a
            backend that cannot keep a group, or a lease that does not exceed the heartbeat.
        MissingDependency: the driver's client library is not installed.

    Example:
        >>> translate_backend_url("zookeeper://zk1,zk2:2182?timeout=15", 1.0)
        ('zookeeper://zk1,zk2:2182', 15.0)
        >>> translate_backend_url("file:///var/lib/tooz", 1.0)
        ('tooz+file:///var/lib/tooz', None)
        >>> translate_backend_url("memcached://cache?timeout=1", 5.0)
        Traceback (most recent call last):
        hashring.telemetry.errors.BadOption: [coordination] backend_url = ...
    """
    try:
        return translate(text, heartbeat, "[coordination] backend_url")
    except BadURL as error:
        raise BadOption(str(error)) from None


def is_embedded(url: str) -> bool:
    """Return whether a store is this host's (or this process's) alone.

    Agents of other hosts are not seen there, which an agent says when it starts.

    >>> is_embedded("sqlite:///var/lib/hashring/agents.db"), is_embedded("redis://cache")
    (True, False)
    """
    return url.partition("://")[0].lower() in {"sqlite", "memory"}
