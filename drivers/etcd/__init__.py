"""``etcd://`` and ``etcds://``: groups as keys with leases; see :mod:`.driver`."""

from .driver import EtcdDriver

__all__ = ["EtcdDriver"]
