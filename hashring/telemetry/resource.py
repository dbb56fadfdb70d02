"""Resource: one thing that can be polled, under an id that every member derives alike.

The id is the key that the ring places: were it to differ between two members, the resource would
be polled twice or not at all. This room knows neither how resources are found nor how polled.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["Resource"]


@dataclasses.dataclass(frozen=True, slots=True)
class Resource:
    """One thing that can be polled.

    Attributes:
        host: the id of the host it belongs to, e.g. its name.
        kind: what it is, e.g. ``"interface"``; pollsters choose by it.
        name: its name among its host's resources of this kind.
        attributes: what its discovery knows beside; takes no part in the id nor in equality.

    Example:
        >>> Resource("web1", "interface", "eth0").id
        'web1:interface:eth0'
        >>> Resource("web1", "host").id
        'web1:host'
    """

    host: str
    kind: str
    name: str = ""
    attributes: Mapping[str, str] = dataclasses.field(
        default_factory=lambda: MappingProxyType({}), compare=False
    )

    @property
    def id(self) -> str:
        """The key: host, kind and name; the same whoever discovers the resource."""
        return f"{self.host}:{self.kind}:{self.name}" if self.name else f"{self.host}:{self.kind}"
