"""Targets: what is polled over the network, from files that tell it and from single addresses.

A target's id is its address with every secret masked, since ids stand in samples and logs. The
files have the format of Prometheus's ``file_sd_configs``; they must be the same on every host
whose agents share the targets. This module reads files and addresses; it asks no target anything.
"""

from __future__ import annotations

import abc
import contextlib
import glob
import hashlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from hashring import clock
from hashring.telemetry.errors import BadTargets
from hashring.telemetry.http import late
from hashring.telemetry.model.resource import Resource
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.plugin import Discovery
from hashring.telemetry.sources.web import file_sd
from hashring.url import masked, shown

__all__ = [
    "EXPOSITION",
    "HTTP",
    "BadTargets",
    "ExpositionTargets",
    "HTTPTargets",
    "masked",
    "static_resource",
    "url_of",
]

log = logging.getLogger(__name__)

HTTP = "http"
"""The kind of what answers HTTP requests with JSON."""

EXPOSITION = "exposition"
"""The kind of what answers HTTP requests with Prometheus's metrics."""

_PREFIX = "prometheus+"
_METRICS = "/metrics"

_MAX_BYTES = file_sd.MAX_BYTES

_RECENT = 2.0
"""Seconds. A file that was changed so shortly before it was read may be changed again within the
clock tick of its first change: its time and size alone cannot tell."""


def url_of(resource: Resource) -> str:
    """Return the URL to ask for a resource of kind :data:`HTTP` or :data:`EXPOSITION`, secrets
    and all.

    Example:
        >>> url_of(static_resource("prometheus+http://web1:9100"))
        'http://web1:9100/metrics'
    """
    return str(resource.attributes.get("url", resource.id.removeprefix(_PREFIX)))


def static_resource(text: str) -> Resource:
    """Return the resource that an entry of a source's ``resources`` stands for.

    ``http://`` and ``https://`` are of kind :data:`HTTP`; ``prometheus+http://`` and
    ``prometheus+https://`` of kind :data:`EXPOSITION` (where there is no path, ``/metrics`` is
    asked for); of any other text the kind is the scheme, or ``"static"`` without a scheme.

    Args:
        text: the entry. The resource's id is the text itself, with secrets masked.

    Raises:
        BadTargets: it is not a text, empty, has blanks or control characters, or is a URL of these
            schemes without a host or with an illegal port.
        MissingDependency: it would be asked over HTTP, and httptools is not installed.

    Example:
        >>> static_resource("https://web1.example/status")
        Resource(id='https://web1.example/status', kind='http', attributes=mappingproxy({}))
        >>> static_resource("snmp://switch1").kind, static_resource("switch1").kind
        ('snmp', 'static')
        >>> static_resource("http://u:s3cret@web1/").id
        'http://u:***@web1/'
    """
    try:
        _check_text(text)
        scheme, separator, _ = text.partition("://")
        scheme = scheme.lower()
        if separator and scheme in ("http", "https"):
            return _resource(HTTP, text, _NO_ATTRIBUTES)
        if separator and scheme in (f"{_PREFIX}http", f"{_PREFIX}https"):
            return _exposition(text[len(_PREFIX) :], _NO_ATTRIBUTES)
    except _Wrong as wrong:
        raise BadTargets(f"the resource {shown(text)} is not usable: {wrong}") from None
    id_ = masked(text)
    attributes = _NO_ATTRIBUTES if id_ == text else MappingProxyType({"url": text})
    return Resource(id_, (scheme if separator else "") or "static", attributes)


_NO_ATTRIBUTES: Mapping[str, Any] = MappingProxyType({})


class _Wrong(Exception):
    """What is wrong with one target, for a message that says where it stands."""


def _check_text(text: object) -> None:
    if not isinstance(text, str) or not text:
        raise _Wrong("it must be a text that is not empty")
    # Lone surrogates are not printable either: an id must be UTF-8.
    if not text.isprintable() or " " in text:
        raise _Wrong("it has blanks or control characters; write them as %20 and the like")


# What most addresses look like. There may be very many, and to take each apart costs six times as
# much as to see that nothing is wrong with it.
_PLAIN_URL = re.compile(r"https?://[a-zA-Z0-9.-]+(:[1-9][0-9]{0,3})?(/[\w./~-]*)?", re.ASCII)


def _check_url(url: str) -> None:
    if _PLAIN_URL.fullmatch(url):
        return
    try:
        parts = urlsplit(url)
        legal = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        # The error's own words show the port, or all that stands before the path.
        raise _Wrong("its host or port cannot be read: a port is a number up to 65535") from None
    if parts.scheme not in ("http", "https"):
        raise _Wrong("it must be a URL that begins with http:// or https://")
    if not legal:
        raise _Wrong("it has no host, or port 0")


def _resource(kind: str, url: str, attributes: Mapping[str, Any], prefix: str = "") -> Resource:
    _check_url(url)
    late.load()  # it will be asked
    # Most addresses have no secret, and there may be very many: they share their attributes.
    if not _PLAIN_URL.fullmatch(url):
        id_ = masked(url)
        if id_ != url:
            return Resource(prefix + id_, kind, MappingProxyType({**attributes, "url": url}))
    return Resource(prefix + url, kind, attributes)


def _exposition(url: str, attributes: Mapping[str, Any]) -> Resource:
    found = _resource(EXPOSITION, url, attributes, _PREFIX)
    if url.count("/") > 2 and not url.endswith("/") and "?" not in url and "#" not in url:
        return found  # it has a path
    parts = urlsplit(url)
    if parts.path in ("", "/"):
        asked = parts._replace(path=_METRICS, fragment="").geturl()
        attributes = MappingProxyType({**found.attributes, "url": asked})
        return Resource(found.id, EXPOSITION, attributes)
    return found


class _File(NamedTuple):
    """What tells one state of a file from another."""

    path: str
    inode: int
    size: int
    mtime_ns: int


class _Content(NamedTuple):
    """What one file said when it was last read, or last could be.

    Attributes:
        state: of the file; ``None``: it could not be looked at.
        is_certain: it cannot have been changed since without its state showing it.
        digest: of what was read last, whether or not it was usable.
        resources: what it said when it last was usable.
        is_usable: it has been usable once.
        error: why it is not now; empty: it is.
    """

    state: _File | None
    is_certain: bool
    digest: bytes
    resources: tuple[Resource, ...]
    is_usable: bool
    error: str


_NOTHING = _Content(None, False, b"", (), False, "")


class _Read(NamedTuple):
    """What the files of one parameter said when they were last looked at."""

    files: Mapping[str, _Content]
    resources: tuple[Resource, ...]
    was_usable: bool  # one of them, now or earlier


class _FileTargets(Discovery):
    """Reads targets from the files that its parameter names: a path or a glob pattern.

    Each file stands for itself, as with Prometheus: one that cannot be used now goes on saying what
    it said when it last could, and one that is gone says nothing. A target that cannot be asked
    costs itself.
    """

    kind: str
    name: str  # its entry point's, for messages
    any_label = False
    finds_addresses = True

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._read: dict[str, _Read] = {}

    def discover(self, parameter: str = "") -> tuple[Resource, ...]:
        """Return the targets in the files.

        Args:
            parameter: an absolute path, or a glob pattern of such; ``**`` goes through folders.

        Returns:
            the resources; the very same object where the files say what they said before.

        Raises:
            BadTargets: no file has been usable yet (a pattern may match none); the message names
                file, line and entry.
        """
        if not parameter.startswith("/"):
            raise BadTargets(
                f"the discovery {self.name} needs an absolute path, "
                f"{self.name}:///etc/hashring/targets.json, not {parameter!r}"
            )
        before = self._read.get(parameter)
        seen = before.files if before is not None else {}
        now = {path: self._look(path, seen.get(path, _NOTHING)) for path in self._paths(parameter)}
        for path in seen.keys() - now.keys():
            log.warning("the targets file %s is gone, and its targets with it", path)
        is_usable = any(content.is_usable for content in now.values())
        was_usable = is_usable or (before is not None and before.was_usable)
        read = self._read[parameter] = _Read(now, self._merged(now, before), was_usable)
        if now and not is_usable:
            raise BadTargets(next(content.error for content in now.values()))
        return read.resources

    def _paths(self, parameter: str) -> list[str]:
        if not glob.has_magic(parameter) or Path(parameter).exists():
            known = self._read.get(parameter)
            if known is not None and known.was_usable and _is_gone(parameter):
                return []  # one that never was there is rather a mistake in its name
            return [parameter]
        found = sorted(glob.glob(parameter, recursive=True))  # noqa: PTH207 - patterns of any root
        return [path for path in found if not _is_gone(path)]

    def _look(self, path: str, before: _Content) -> _Content:
        """Return what a file says now, or said last."""
        try:
            state = _state(path)
            if before.is_certain and before.state == state:
                return before
            # The state was taken before reading: a file that is changed meanwhile is read again.
            is_certain = abs(clock.wall() - state.mtime_ns / 1e9) > _RECENT
            if before.state is not None and before.digest == _digest_of(state):
                return before._replace(state=state, is_certain=is_certain)
            content = _bytes_of(state)
            digest = hashlib.blake2b(content).digest()
        except BadTargets as wrong:
            return self._failed(path, before._replace(state=None, is_certain=False), str(wrong))
        now = before._replace(state=state, is_certain=is_certain, digest=digest)
        try:
            resources = tuple(self._targets(path, content))
        except BadTargets as wrong:
            return self._failed(path, now, str(wrong))
        if before.error:
            log.info("the targets file %s can be used again", path)
        return now._replace(resources=resources, is_usable=True, error="")

    def _failed(self, path: str, content: _Content, error: str) -> _Content:
        if error != content.error:
            kept = (
                f"the {len(content.resources)} targets that it last had are polled on"
                if content.is_usable
                else "it has no targets until it is mended"
            )
            log.warning("%s; %s", error, kept)
        return content._replace(error=error)

    def _merged(self, now: Mapping[str, _Content], before: _Read | None) -> tuple[Resource, ...]:
        if before is not None and list(before.files) == list(now):
            same = (now[path].resources is before.files[path].resources for path in now)
            if all(same):
                return before.resources
        found: dict[str, Resource] = {}
        for path, content in now.items():
            for resource in content.resources:
                _keep(found, resource, path)
        return tuple(found.values())

    def _targets(self, path: str, content: bytes) -> Iterator[Resource]:
        for group in file_sd.read(path, content, any_label=self.any_label):
            visible = {
                name: value for name, value in group.labels.items() if not name.startswith("__")
            }
            attributes = MappingProxyType({"labels": MappingProxyType(visible)} if visible else {})
            for target in group.targets:
                try:
                    _check_text(target)
                    yield self.resource(target, group.labels, attributes)
                except _Wrong as wrong:
                    log.warning(
                        "%s: the target %s is not usable, and is left out: %s",
                        group.place,
                        shown(target),
                        wrong,
                    )

    @abc.abstractmethod
    def resource(
        self, target: str, labels: Mapping[str, str], attributes: Mapping[str, Any]
    ) -> Resource:
        """Return the resource of one target, which is known to be a legal text."""


class HTTPTargets(_FileTargets):
    """URLs that answer in JSON, from files: ``http-targets:///etc/hashring/targets.json``."""

    kind = HTTP
    name = "http-targets"
    any_label = True  # the samples are not Prometheus's

    def resource(
        self, target: str, labels: Mapping[str, str], attributes: Mapping[str, Any]
    ) -> Resource:
        """Return the resource of a URL."""
        return _resource(HTTP, target, attributes)


class ExpositionTargets(_FileTargets):
    """Prometheus's targets, from files: ``prometheus-targets:///etc/hashring/targets.json``.

    A target is ``host:port``, or a URL. The labels ``__scheme__``, ``__metrics_path__`` and
    ``__param_NAME`` say, as they do to Prometheus, what to ask ``host:port`` for.
    """

    kind = EXPOSITION
    name = "prometheus-targets"

    def resource(
        self, target: str, labels: Mapping[str, str], attributes: Mapping[str, Any]
    ) -> Resource:
        """Return the resource of ``host:port`` or a URL."""
        if "://" in target:
            return _exposition(target, attributes)
        if "/" in target or "?" in target or "#" in target:
            raise _Wrong("write host:port, or a whole URL")
        path = labels.get("__metrics_path__", _METRICS)
        query = urlencode(
            [(name[8:], labels[name]) for name in sorted(labels) if name.startswith("__param_")]
        )
        url = f"{labels.get('__scheme__', 'http')}://{target}"
        url += path if path.startswith("/") else f"/{path}"
        return _exposition(f"{url}?{query}" if query else url, attributes)


def _keep(found: dict[str, Resource], resource: Resource, path: str) -> None:
    """Keep a target unless it is there already: where two are the same, the first one counts."""
    first = found.setdefault(resource.id, resource)
    if first is not resource and url_of(first) != url_of(resource):
        log.warning(
            "%s: two targets differ only in a secret, so that both would be %r, and the second is "
            "left out; give secrets in headers, or spell the addresses differently",
            path,
            resource.id,
        )


def _state(path: str) -> _File:
    try:
        found = os.stat(path)  # noqa: PTH116 - one call for each file and cycle, and no more
    except OSError as error:
        raise BadTargets(f"the targets file {path} cannot be read: {error.strerror}") from None
    return _File(path, found.st_ino, found.st_size, found.st_mtime_ns)


def _digest_of(file: _File) -> bytes:
    # Piece by piece: a file that says what it said before is never in memory as a whole.
    with _opened(file) as opened:
        return hashlib.file_digest(opened, hashlib.blake2b).digest()


def _bytes_of(file: _File) -> bytes:
    with _opened(file) as opened:
        return opened.read()


@contextlib.contextmanager
def _opened(file: _File) -> Iterator[BufferedReader]:
    if file.size > _MAX_BYTES:
        raise BadTargets(
            f"the targets file {file.path} has {file.size} bytes; at most {_MAX_BYTES}"
        )
    try:
        with Path(file.path).open("rb") as opened:
            yield opened
    except OSError as error:
        raise BadTargets(f"the targets file {file.path} cannot be read: {error.strerror}") from None


def _is_gone(path: str) -> bool:
    """Whether there is no such file; one that cannot be looked at may be there."""
    try:
        os.stat(path)  # noqa: PTH116 - as in _state
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False
