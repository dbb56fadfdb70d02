"""What a ``zookeeper://`` URL says: the options, the path, the rights, the names of nodes."""

from __future__ import annotations

import ssl
from urllib.parse import quote, unquote

from kazoo.security import ACL, CREATOR_ALL_ACL, OPEN_ACL_UNSAFE, READ_ACL_UNSAFE, Id

from hashring.driver import Driver, DriverURL, Option, boolean, check_node_path
from hashring.errors import BadURL, StoreUnusable

from .._net import tls_context

__all__ = ["OPTIONS", "PORT", "name_of", "node_of", "root_of", "tls_of"]

PORT = 2181
_ROOT = "/hashring"


def _mechanism(text: str) -> str:
    known = ("DIGEST-MD5", "GSSAPI", "PLAIN")
    if text.upper() not in known:
        raise ValueError(f"must be one of {', '.join(known)}")
    return text.upper()


_ACLS: dict[str, list[ACL] | None] = {
    "auto": None,
    "open": OPEN_ACL_UNSAFE,
    "creator": CREATOR_ALL_ACL,
    "creator-read": CREATOR_ALL_ACL + READ_ACL_UNSAFE,
}


def _acl(text: str) -> list[ACL] | None:
    if text in _ACLS:
        return _ACLS[text]
    entries = []
    for entry in text.split(","):
        scheme, _, rest = entry.partition(":")
        name, _, letters = rest.rpartition(":")
        rights = {"r": 1, "w": 2, "c": 4, "d": 8, "a": 16}
        if not (scheme and name and letters) or set(letters) - set(rights):
            raise ValueError(f"must be {', '.join(_ACLS)}, or a list of scheme:id:cdrwa")
        entries.append(ACL(sum(rights[letter] for letter in set(letters)), Id(scheme, name)))
    return entries


OPTIONS = (
    Option("acl", _acl, None, "auto, open, creator, creator-read, or scheme:id:cdrwa,..."),
    Option("sasl", _mechanism, "", "log in by SASL: DIGEST-MD5, PLAIN or GSSAPI"),
    Option("sasl_service", str, "zookeeper", "the first part of the servers' principal"),
    Option("tls", boolean, False, "encrypt, and check the servers' certificates"),
    Option("ca", str, None, "file with the authorities to trust; default: the system's"),
    Option("cert", str, None, "file with our own certificate"),
    Option("key", str, None, "file with its key, where it is not in the same file"),
    Option("key_password", str, None, "the key's password", secret=True),
    Option("check_hostname", boolean, True, "the certificate must name the host in the URL"),
)


def root_of(url: DriverURL) -> str:
    """Return the node under which all groups are.

    Raises:
        BadURL: the path cannot be the name of one.
    """
    check_node_path(url)
    root = url.path.rstrip("/") or _ROOT
    if any(part in {"", ".", ".."} for part in root.split("/")[1:]) or root == "/zookeeper":
        raise BadURL(f"{url}: the path {root!r} cannot be the name of a ZooKeeper node")
    return root


def node_of(name: str) -> str:
    """Turn any id into a legal node name.

    >>> node_of("host 1/cpu"), node_of(".."), node_of("a.b")
    ('host%201%2Fcpu', '%2E%2E', 'a.b')
    """
    escaped = quote(name, safe="")
    return escaped if escaped.strip(".") else escaped.replace(".", "%2E")


def name_of(node: str) -> str:
    """Return the id of a node name.

    >>> name_of("host%201%2Fcpu")
    'host 1/cpu'
    """
    return unquote(node)


def tls_of(driver: Driver) -> ssl.SSLContext | None:
    """Return the context of TLS connections, or ``None`` for plain ones.

    Raises:
        BadURL: a file cannot be used.
    """
    if not driver.settings["tls"]:
        return None
    try:
        context = tls_context(driver, password=driver.settings["key_password"])
    except StoreUnusable as error:
        raise BadURL(str(error)) from error
    context.check_hostname = driver.settings["check_hostname"]
    return context
