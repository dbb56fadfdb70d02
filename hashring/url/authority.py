"""A host and its port, as URLs spell them: one reader for stores and sinks."""

from __future__ import annotations

from urllib.parse import quote, unquote

from hashring.errors import BadURL
from hashring.url.masking import HIDDEN

__all__ = ["host_and_port", "place"]

_MOST = 65535


def host_and_port(part: str, shown: str, *, least: int = 1) -> tuple[str, int | None]:
    """Return a host, percent-decoded and without brackets, and its port.

    Args:
        part: as it stands in a URL: ``host``, ``host:port``, ``[address]:port``.
        shown: the URL as a message may show it.
        least: the lowest port; 0 for a sink that may listen on any.

    Returns:
        The host, which may be empty, and the port or ``None``.

    Raises:
        BadURL: the brackets do not match, or the port is not a number of a port.

    >>> host_and_port("[::1]:80", "x://[::1]:80"), host_and_port("web%2D1", "x://web%2D1")
    (('::1', 80), ('web-1', None))
    """
    if part.startswith("["):
        host, bracket, port_text = part[1:].partition("]")
        if not bracket or (port_text and not port_text.startswith(":")):
            raise BadURL(f"{shown!r}: an IPv6 address must stand in [brackets]")
        port_text = port_text[1:]
    else:
        host, _, port_text = part.partition(":")
    if not port_text:
        return unquote(host), None
    is_number = port_text.isascii() and port_text.isdigit() and len(port_text) <= 5
    if not (is_number and least <= int(port_text) <= _MOST):
        # What is not a number may be a password, of which the host that follows was forgotten.
        port = repr(port_text) if is_number else HIDDEN
        raise BadURL(f"{shown!r}: the port {port} is not a number from {least} to {_MOST}")
    return unquote(host), int(port_text)


def place(host: str, port: int | None) -> str:
    """Return a host and a port as a URL spells them.

    >>> place("::1", 80), place("web1", None)
    ('[::1]:80', 'web1')
    """
    host = f"[{host}]" if ":" in host else quote(host, safe="")
    return host if port is None else f"{host}:{port}"
