"""``redis://`` and its kin: groups on a Redis or Valkey server; see :mod:`.driver`."""

from .driver import RedisDriver

__all__ = ["RedisDriver"]
