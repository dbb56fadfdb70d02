"""``tooz+SCHEME://``: groups on a backend of tooz; see :mod:`.driver`."""

from .driver import ToozDriver

__all__ = ["ToozDriver"]
