"""``postgresql://``: groups as rows of one table; see :mod:`.driver`."""

from .driver import PostgreSQLDriver
from .tables import migration

__all__ = ["PostgreSQLDriver", "migration"]
