"""Resource: one thing that can be polled, under an id that every member derives alike.

The id is the key that the ring places: were it to differ between two members, the resource would
be polled twice or not at all. This module knows neither how resources are found nor how polled.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

__all__ = ["Resource", "on_host"]


@dataclasses.dataclass(frozen=True, slots=True)
class Resource:
    """One thing that can be polled.

    Attributes:
        id: the key: the same whoever discovers the resource, e.g. a UUID or a URL.
        kind: what it is, e.g. ``"interface"``, ``"instance"``, ``"http"``; pollsters choose by it.
        attributes: what its discovery knows beside, for the pollsters of its kind; takes no part
            in equality.

    Example:
        >>> Resource("https://web1.example/status", "http").id
        'https://web1.example/status'
    """

    id: str
    kind: str
    attributes: Mapping[str, Any] = dataclasses.field(
        default_factory=lambda: MappingProxyType({}), compare=False
    )

    @property
    def name(self) -> str:
        """Its name among its host's resources of this kind: ``attributes["name"]``, else the id."""
        return str(self.attributes.get("name", self.id))


def on_host(host: str, kind: str, name: str = "", **attributes: str) -> Resource:
    """Return a resource that belongs to a host, under an id made of host, kind and name.

    Args:
        host: the host's id.
        kind: what it is.
        name: its name among the host's resources of this kind; the host itself needs none.
        attributes: further attributes.

    Example:
        >>> on_host("web1", "interface", "eth0").id
        'web1:interface:eth0'
        >>> on_host("web1", "host").id
        'web1:host'
    """
    id_ = f"{host}:{kind}:{name}" if name else f"{host}:{kind}"
    return Resource(id_, kind, MappingProxyType({"host": host, "name": name, **attributes}))
