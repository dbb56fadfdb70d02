"""XML of bounded size and depth, without a document type: no entity can stand for more.

This module knows text and elements, and not what they mean.
"""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

__all__ = ["parsed"]

_MAX_CHARACTERS = 4 * 1024 * 1024
_MAX_ELEMENTS = 100_000
_MAX_DEPTH = 100
"""The description of a libvirt domain has some kilobytes, some hundred elements, ten levels."""


class _Bounded(ElementTree.TreeBuilder):
    """Builds elements, and stops at the first that is one too many."""

    def __init__(self) -> None:
        super().__init__()
        self._count = self._depth = 0

    def start(self, *args: Any) -> ElementTree.Element:
        """Begin an element."""
        self._count += 1
        self._depth += 1
        if self._count > _MAX_ELEMENTS or self._depth > _MAX_DEPTH:
            raise ValueError(
                f"this XML has more than {_MAX_ELEMENTS} elements or {_MAX_DEPTH} levels"
            )
        return super().start(*args)

    def end(self, tag: str) -> ElementTree.Element:
        """End an element."""
        self._depth -= 1
        return super().end(tag)

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        """Refuse a document type: what it declares is expanded wherever it is named."""
        raise ValueError(f"this XML has a document type ({name[:40]!r}), which is not read")


def parsed(text: str) -> ElementTree.Element:
    """Return the root element of a text.

    Raises:
        xml.etree.ElementTree.ParseError: it is not XML.
        ValueError: it is too large or too deep, or declares a document type.

    Example:
        >>> parsed("<a><b/></a>").find("b").tag
        'b'
        >>> parsed('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>')
        Traceback (most recent call last):
        ...
        ValueError: this XML has a document type ('a'), which is not read
    """
    if len(text) > _MAX_CHARACTERS:
        raise ValueError(f"this XML has {len(text)} characters; {_MAX_CHARACTERS} are the most")
    parser = ElementTree.XMLParser(target=_Bounded())  # noqa: S314 - bounded, and no entities
    parser.feed(text)
    root: ElementTree.Element = parser.close()
    return root
