"""``memcached://``: groups on a cache; see :mod:`.driver`."""

from .driver import MemcachedDriver

__all__ = ["MemcachedDriver"]
