"""Who asks, and what they may see and change: Aodh's policies, as they are by default.

An administrator sees and changes all. Others see the alarms of their project with the role
``reader``, and change them with the role ``member``.
"""

from __future__ import annotations

from typing import NamedTuple

from hashring.alarms.api.answers import forbidden

__all__ = ["Identity"]


class Identity(NamedTuple):
    """Who asks.

    Attributes:
        user: an id, or ``None``.
        project: an id; ``None``: of an administrator of this host, who has none.
        roles: in lower case.
    """

    user: str | None
    project: str | None
    roles: frozenset[str]

    @property
    def is_admin(self) -> bool:
        """Whether all alarms are theirs to see and to change."""
        return "admin" in self.roles

    def may_read(self, project: str | None) -> None:
        """Check that they may see what is a project's.

        Raises:
            Refused: they may not.
        """
        self._check("reader", project)

    def may_change(self, project: str | None) -> None:
        """Check that they may change what is a project's.

        Raises:
            Refused: they may not.
        """
        self._check("member", project)

    def is_administrator(self) -> None:
        """Check that they are an administrator.

        Raises:
            Refused: they are not.
        """
        if not self.is_admin:
            raise forbidden()

    def _check(self, role: str, project: str | None) -> None:
        if self.is_admin:
            return
        if role not in self.roles or self.project is None or project != self.project:
            raise forbidden()

    def scope(self, project: str | None) -> str | None:
        """Return the project that queries of an alarm are narrowed to; ``None``: none is.

        Args:
            project: whose alarm it is.
        """
        if not self.is_admin:
            return self.project
        return project if project and project != self.project else None
