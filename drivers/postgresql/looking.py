"""What people who look on ask of a PostgreSQL: which groups there are, how long leases run.

It reads, and makes nothing.
"""

from __future__ import annotations

import abc

from hashring.driver import Driver, check_names

from .._net import tell_limits
from .groups import digest
from .server import Server
from .tables import Statements

__all__ = ["LookingOn"]


class LookingOn(Driver, abc.ABC):
    """The part of the driver that members do not use."""

    _server: Server
    _statements: Statements

    def open_to_look(self) -> None:
        """See :meth:`hashring.driver.Driver.open_to_look`. It makes no table."""
        self._server.makes_table = False
        tell_limits(self)
        self._server.open()

    def groups(self) -> list[str]:
        """See :meth:`hashring.driver.Driver.groups`."""
        ask = [(self._statements.groups, ())]
        (rows,) = self._server.call("listing the groups", lambda facts: ask)
        return [name.decode() for (name,) in rows]

    def leases(self, group: str) -> dict[str, float]:
        """See :meth:`hashring.driver.Driver.leases`."""
        check_names(group)
        ask = [(self._statements.leases, (digest(group),))]
        (rows,) = self._server.call(f"reading the leases of {group!r}", lambda facts: ask)
        return {name.decode(): left for name, left in rows}
