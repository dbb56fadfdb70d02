"""Translates the URLs of tooz's backends to ours: for agents, and for tooz's own users.

An operator's URL keeps its meaning: in tooz's own schemes ``timeout`` is the time after which a
silent member counts as dead, so it is the lease here, and what the client libraries are told is
told to our drivers under their names. This module knows the options of tooz's backends; what our
drivers accept it asks them.
"""

from __future__ import annotations

import dataclasses
import difflib
import logging
import math
from collections.abc import Mapping
from types import MappingProxyType

from hashring.driver import COMMON_OPTIONS, DEFAULT_TTL, DriverURL, driver_class, load
from hashring.errors import BadURL, UnknownDriver

__all__ = ["translate"]

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class _Backend:
    """What tooz's options of one backend mean here.

    Attributes:
        prefix: what our scheme has before tooz's.
        lease: the options that are the lease; the first that is given counts.
        renamed: tooz's name of an option -> ours.
        dropped: an option without effect here -> why.
        refused: an option that must not be dropped -> what to do.
    """

    prefix: str = ""
    lease: tuple[str, ...] = ("membership_timeout", "timeout")
    renamed: Mapping[str, str] = dataclasses.field(default_factory=dict)
    dropped: Mapping[str, str] = dataclasses.field(default_factory=dict)
    refused: Mapping[str, str] = dataclasses.field(default_factory=dict)


_LOCKS = "a lock has the lease of its owner"
_SOCKETS = {"socket_timeout": "timeout", "socket_connect_timeout": "connect_timeout"}

_REDIS = _Backend(
    renamed=_SOCKETS,
    dropped={
        "lock_timeout": _LOCKS,
        "encoding": "records are bytes",
        "retry_on_timeout": "requests that are safe to repeat are repeated; see retries",
        "socket_keepalive": "each call has a timeout of its own",
        "health_check_interval": "each call has a timeout of its own",
    },
)
_ZOOKEEPER = _Backend(
    lease=("timeout",),
    renamed={
        **_SOCKETS,
        "use_ssl": "tls",
        "certfile": "cert",
        "keyfile": "key",
        "keyfile_password": "key_password",
    },
    dropped={
        "connection_retry": "see retries and backoff",
        "command_retry": "see retries and backoff",
        "randomize_hosts": "the hosts are always shuffled",
        "handler": "there is no eventlet here",
        "verify_certs": "certificates are always checked",
    },
)
_MEMCACHED = _Backend(
    renamed={
        **_SOCKETS,
        "use_ssl": "tls",
        "ca_cert": "ca",
        "ssl_cert": "cert",
        "ssl_key": "key",
    },
    dropped={
        "lock_timeout": _LOCKS,
        "leader_timeout": "a leader has the lease of its member",
        "max_pool_size": "there are as many connections as calls at once",
        "ssl_ciphers": "the ciphers are those of the system's TLS policy",
        "ssl_check_hostname": "the name is checked with the certificate; see verify",
    },
    refused={"ssl_key_password": "the key must be one without a password"},
)
_ETCD = _Backend(prefix="tooz+", dropped={"lock_timeout": _LOCKS})
_FILE = _Backend(prefix="tooz+", lease=("timeout",))

_BACKENDS: Mapping[str, _Backend] = {
    "redis": _REDIS,
    "rediss": _REDIS,
    "valkey": _REDIS,
    "valkeys": _REDIS,
    "zookeeper": _ZOOKEEPER,
    "kazoo": _ZOOKEEPER,
    "memcached": _MEMCACHED,
    "etcd3+http": _ETCD,
    "etcd3+https": _ETCD,
    "file": _FILE,
}

# Backends of tooz, of this or an earlier release, that cannot keep a group: its driver says why.
_UNFIT = frozenset({"consul", "etcd3", "etcd3gw", "ipc", "kubernetes", "mysql", "zake"})


def translate(
    text: str, heartbeat: float, where: str, *, lease_everywhere: bool = False
) -> tuple[str, float | None]:
    """Return the store's URL in our spelling, and the lease that it names.

    Args:
        text: tooz's spelling of a URL, or ours.
        heartbeat: seconds between two heartbeats, which the lease must exceed.
        where: what the URL is, for errors.
        lease_everywhere: ``timeout`` is the lease for all stores, not for those alone that tooz
            knows.

    Returns:
        The URL, and the lease (ttl) in seconds; ``None`` where the URL names none.

    Raises:
        BadURL: it is no URL, has an option that nobody knows or of the wrong type, names a
            backend that cannot keep a group, or a lease that does not exceed the heartbeat.
        MissingDependency: the driver's client library is not installed.

    Example:
        >>> translate("zookeeper://zk1,zk2:2182?timeout=15", 1.0, "the URL")
        ('zookeeper://zk1,zk2:2182', 15.0)
        >>> translate("sqlite:////a.db?timeout=15", 1.0, "the URL", lease_everywhere=True)
        ('sqlite:////a.db', 15.0)
    """
    try:
        url = DriverURL.parse(text.strip())
    except BadURL as error:
        raise BadURL(f"{where}: {error}") from None
    where = f"{where} = {_shown(url)}"
    if url.scheme in _UNFIT:
        url = dataclasses.replace(
            url, scheme=f"tooz+{url.scheme}", options=MappingProxyType({}), secret=None
        )
        backend = _Backend(lease=())
    else:
        other = _Backend() if lease_everywhere else _Backend(lease=())
        backend = _BACKENDS.get(url.scheme) or _BACKENDS.get(url.scheme.partition("+")[0], other)
    options = dict(url.options)
    lease = _lease(options, backend, where, heartbeat)
    _rename(options, backend, where)
    url = dataclasses.replace(
        url, scheme=backend.prefix + url.scheme, options=MappingProxyType(options)
    )
    if backend is _REDIS:
        url = _redis(url)
    elif backend is _ZOOKEEPER:
        url = _zookeeper(url, where)
    try:
        _check_names(url, backend, where)
        load(url, ttl=lease or DEFAULT_TTL)
    except (BadURL, UnknownDriver) as error:
        raise BadURL(f"{where}: {error}") from None
    return url.spelled, lease


def _lease(
    options: dict[str, str], backend: _Backend, where: str, heartbeat: float
) -> float | None:
    """Take the lease out of a URL's options; ``ttl`` is our own name of it."""
    name = next((name for name in ("ttl", *backend.lease) if name in options), None)
    if name is None:
        return None
    text = options.pop(name)
    try:
        lease = float(text)
    except ValueError:
        lease = math.nan
    if not 0 < lease < math.inf:
        raise BadURL(f"{where}: {name} must be a positive number of seconds, not {text!r}")
    if lease <= heartbeat:
        raise BadURL(
            f"{where}: {name} = {lease:g} s is the time after which a silent agent counts as "
            f"dead, and must be longer than [coordination] heartbeat = {heartbeat:g} s: "
            f"raise {name} (three heartbeats are sensible), or lower heartbeat"
        )
    return lease


def _rename(options: dict[str, str], backend: _Backend, where: str) -> None:
    """Give tooz's options our names; drop those that mean nothing here."""
    for name, advice in backend.refused.items():
        if name in options:
            raise BadURL(f"{where}: {name} is not supported: {advice}")
    for name, reason in backend.dropped.items():
        if options.pop(name, None) is not None:
            log.warning("%s: the option %s has no effect here: %s", where, name, reason)
    for name, ours in backend.renamed.items():
        if name not in options:
            continue
        if ours in options:
            raise BadURL(f"{where}: {name} and {ours} are the same option: give one of them")
        options[ours] = options.pop(name)


def _redis(url: DriverURL) -> DriverURL:
    options = dict(url.options)
    if "sentinel" in options and "ssl" in options:
        # In tooz, TLS to the servers does not imply TLS to the Sentinels.
        options.setdefault("sentinel_ssl", "false")
    scheme = url.scheme
    if "+" not in scheme and not url.hosts and url.path.strip("/") and not _is_number(url.path):
        scheme += "+unix"  # tooz has no scheme of its own for a socket
    return dataclasses.replace(url, scheme=scheme, options=MappingProxyType(options))


def _is_number(path: str) -> bool:
    return path.strip("/").isdigit()


def _zookeeper(url: DriverURL, where: str) -> DriverURL:
    options = dict(url.options)
    more, namespace = options.pop("hosts", ""), options.pop("namespace", "")
    hosts = url.hosts
    if more:
        try:
            hosts += DriverURL.parse(f"zookeeper://{more}").hosts
        except BadURL:
            raise BadURL(f"{where}: hosts must be host:port, with commas between") from None
    path = f"{url.path.rstrip('/')}/{namespace.strip('/')}" if namespace else url.path
    return dataclasses.replace(url, hosts=hosts, path=path, options=MappingProxyType(options))


def _check_names(url: DriverURL, backend: _Backend, where: str) -> None:
    own = {option.name for option in (*COMMON_OPTIONS, *driver_class(url.scheme).options)}
    known = own.union(backend.lease, backend.renamed, backend.dropped)
    if backend is _ZOOKEEPER:
        known |= {"hosts", "namespace"}
    for name in url.options:
        if name not in own:
            close = difflib.get_close_matches(name, known, 1)
            meant = f" (did you mean {close[0]!r}?)" if close else ""
            raise BadURL(
                f"{where}: unknown option {name!r}{meant}; there are: {', '.join(sorted(known))}"
            )


def _shown(url: DriverURL) -> str:
    return repr(str(url))
