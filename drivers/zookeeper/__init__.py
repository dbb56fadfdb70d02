"""``zookeeper://``: groups on a ZooKeeper ensemble; see :mod:`.driver`."""

from .driver import ZooKeeperDriver

__all__ = ["ZooKeeperDriver"]
