"""What an ``etcd://`` URL says: its options, the endpoints, and the names of keys."""

from __future__ import annotations

import ssl
from urllib.parse import quote, unquote

from hashring.driver import Driver, DriverURL, Option, boolean, check_node_path
from hashring.errors import BadURL
from hashring.url import seconds

from .._net import tls_context

__all__ = ["OPTIONS", "Keys", "end_of", "endpoints_of", "root_of", "tls_of"]

_PORT = 2379
_ROOT = "/hashring"

OPTIONS = (
    Option("poll", seconds, 5.0, "seconds after which wait() asks, should a watch be silent"),
    Option("ca", str, None, "file with the authorities to trust; default: the system's"),
    Option("cert", str, None, "file with our certificate, for servers that ask for one"),
    Option("key", str, None, "file with the key of our certificate"),
    Option("key_password", str, None, "the key's password", secret=True),
    Option("verify", boolean, True, "check the servers' certificates and their names"),
)


def endpoints_of(url: DriverURL) -> list[tuple[str, int]]:
    """Return host and port of each endpoint, in the URL's order."""
    return [(host, port or _PORT) for host, port in url.hosts or (("localhost", None),)]


def root_of(url: DriverURL) -> str:
    """Return what every key begins with.

    Raises:
        BadURL: the path cannot be meant as one.
    """
    check_node_path(url)
    if url.secret is not None and url.user is None:
        raise BadURL(f"{url}: a password needs a user before it: user:password@host")
    return url.path.rstrip("/") or _ROOT


def tls_of(driver: Driver) -> ssl.SSLContext | None:
    """Return the context for ``etcds://``, or ``None`` for plain text."""
    if driver.url.scheme != "etcds":
        return None
    context = tls_context(driver, password=driver.settings["key_password"])
    if not driver.settings["verify"]:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def end_of(prefix: str) -> str:
    """Return the first key behind all that begin with a prefix.

    >>> end_of("/a/")
    '/a0'
    """
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


class Keys:
    """The names of keys below a root.

    >>> Keys("/hashring").member("a/b", "host 1")
    '/hashring/groups/a%2Fb/host%201'
    """

    def __init__(self, root: str) -> None:
        self.mark = f"{root}/mark"
        self.groups = f"{root}/groups/"

    def group(self, group: str) -> str:
        """Return what the keys of a group's members begin with."""
        return f"{self.groups}{quote(group, safe='')}/"

    def member(self, group: str, member: str) -> str:
        """Return the key of a member."""
        return self.group(group) + quote(member, safe="")

    @staticmethod
    def group_of(key: str) -> str:
        """Return the group's id in the key of a member.

        >>> Keys.group_of("/hashring/groups/a%2Fb/host%201")
        'a/b'
        """
        return unquote(key.rpartition("/")[0].rpartition("/")[2])

    @staticmethod
    def member_of(key: str) -> str:
        """Return the member's id in its key."""
        return unquote(key.rpartition("/")[2])
