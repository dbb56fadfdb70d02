"""Targets: what is polled over the network, from files that tell it and from single addresses.

A target's id is its address with every secret masked, since ids stand in samples and logs. The
files have the format of Prometheus's ``file_sd_configs``; they must be the same on every host
whose agents share the targets. This room reads files and addresses; it asks no target anything.
"""

from __future__ import annotations

import abc
import glob
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, NoReturn
from urllib.parse import unquote_plus, urlencode, urlsplit

from hashring import clock
from hashring.errors import HashringError, MissingDependency
from hashring.telemetry.discovery import Discovery
from hashring.telemetry.resource import Resource
from hashring.telemetry.settings import Settings

try:
    import yaml
except ImportError as error:  # pragma: no cover - the tests of the wheel run without PyYAML
    raise MissingDependency("the telemetry agent", "PyYAML", "telemetry") from error

from hashring.telemetry import bounded_yaml

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

HTTP = "http"
"""The kind of what answers HTTP requests with JSON."""

EXPOSITION = "exposition"
"""The kind of what answers HTTP requests with Prometheus's metrics."""

_PREFIX = "prometheus+"
_METRICS = "/metrics"

_MAX_BYTES = 64 * 1024 * 1024
_MAX_VALUES = 1_000_000
"""Values in a file of JSON, about. Parsing is one call that no other thread runs beside, the
heartbeat neither: 0.5 s for so many of the dearest, 0.05 s where they are texts."""

_RECENT = 2.0
"""Seconds. A file that was changed so shortly before it was read may be changed again within the
clock tick of its first change: its time and size alone cannot tell."""

_SECRET = re.compile(
    r"passw|passphrase|secret|token|api.?key|access.?key|auth|credential|signature|^(key|pass|sig)$",
    re.IGNORECASE,
)

_YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class BadTargets(HashringError, ValueError):
    """A file of targets, or a single one, is not usable; the message says where and what."""


def masked(url: str) -> str:
    """Return a URL in which every secret is ``***``: user and password, and each option of the
    query whose name looks like a secret's.

    Example:
        >>> masked("https://api:s3cret@web1.example/v1?token=abc&limit=5")
        'https://api:***@web1.example/v1?token=***&limit=5'
        >>> masked("https://web1.example/v1")
        'https://web1.example/v1'
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
    base, question, query = rest.partition("?")
    # The last "@" before the path: an unquoted password may hold one.
    authority, slash, path = base.partition("/")
    userinfo, at, host = authority.rpartition("@")
    if at:
        user, colon, _ = userinfo.partition(":")
        authority = f"{user}:***@{host}" if colon else f"***@{host}"
    if question:
        query = "&".join(map(_masked_option, query.split("&")))
    return f"{scheme}{separator}{authority}{slash}{path}{question}{query}"


def _masked_option(option: str) -> str:
    name, equals, _ = option.partition("=")
    return f"{name}=***" if equals and _SECRET.search(unquote_plus(name)) else option


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
    asked for); of any other text the kind is the scheme, or ``"static"`` where there is none.

    Args:
        text: the entry. The resource's id is the text itself, with secrets masked.

    Raises:
        BadTargets: it is no text, empty, has blanks or control characters, or is a URL of these
            schemes without a host or with an illegal port.

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
        raise BadTargets(f"the resource {_shown(text)} is not usable: {wrong}") from None
    shown = masked(text)
    attributes = _NO_ATTRIBUTES if shown == text else MappingProxyType({"url": text})
    return Resource(shown, (scheme if separator else "") or "static", attributes)


_NO_ATTRIBUTES: Mapping[str, Any] = MappingProxyType({})


class _Wrong(Exception):
    """What is wrong with one target, for a message that says where it stands."""


def _shown(value: object) -> str:
    text = masked(value) if isinstance(value, str) else repr(value)
    return repr(text if len(text) <= 200 else f"{text[:200]}...")


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
    except ValueError as error:
        raise _Wrong(str(error)) from None
    if parts.scheme not in ("http", "https"):
        raise _Wrong("it must be a URL that begins with http:// or https://")
    if not legal:
        raise _Wrong("it has no host, or port 0")


def _resource(kind: str, url: str, attributes: Mapping[str, Any], prefix: str = "") -> Resource:
    _check_url(url)
    # Most addresses have no secret, and there may be very many: they share their attributes.
    if "@" in url or "?" in url:
        shown = masked(url)
        if shown != url:
            return Resource(prefix + shown, kind, MappingProxyType({**attributes, "url": url}))
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


class _Read(NamedTuple):
    """What the files of one parameter said when they were last read."""

    files: tuple[_File, ...]
    is_certain: bool  # no file can have been changed since without its _File showing it
    digest: bytes
    resources: tuple[Resource, ...]
    error: str


class _FileTargets(Discovery):
    """Reads targets from the files that its parameter names: a path or a glob pattern."""

    kind: str
    name: str  # its entry point's, for messages

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
            BadTargets: a file is missing (a pattern may match none), cannot be read, or is wrong;
                the message names file, line and entry.
        """
        if not parameter.startswith("/"):
            raise BadTargets(
                f"the discovery {self.name} needs an absolute path, "
                f"{self.name}:///etc/hashring/targets.json, not {parameter!r}"
            )
        files = tuple(self._state(path) for path in self._paths(parameter))
        last = self._read.get(parameter)
        if last is None or not (last.is_certain and last.files == files):
            last = self._read[parameter] = self._again(files, last)
        if last.error:
            raise BadTargets(last.error)
        return last.resources

    def _paths(self, parameter: str) -> list[str]:
        if not glob.has_magic(parameter) or Path(parameter).exists():
            return [parameter]
        return sorted(glob.glob(parameter, recursive=True))  # noqa: PTH207 - patterns of any root

    def _state(self, path: str) -> _File:
        try:
            found = os.stat(path)  # noqa: PTH116 - one call for each file and cycle, and no more
        except OSError as error:
            raise BadTargets(f"the targets file {path} cannot be read: {error.strerror}") from None
        return _File(path, found.st_ino, found.st_size, found.st_mtime_ns)

    def _again(self, files: tuple[_File, ...], last: _Read | None) -> _Read:
        # The state was taken before reading: a file that is changed meanwhile is read again.
        now = clock.wall()
        is_certain = all(abs(now - file.mtime_ns / 1e9) > _RECENT for file in files)
        contents = [(file.path, self._content(file)) for file in files]
        digest = hashlib.blake2b()
        for path, content in contents:
            digest.update(f"{len(path)}:{path}{len(content)}:".encode(errors="surrogateescape"))
            digest.update(content)
        if last is not None and last.digest == digest.digest():
            return last._replace(files=files, is_certain=is_certain)
        found: dict[str, Resource] = {}
        error = ""
        try:
            for path, content in contents:
                for resource in self._targets(path, content):
                    _keep(found, resource, path)
        except BadTargets as wrong:
            error = str(wrong)
        return _Read(files, is_certain, digest.digest(), tuple(found.values()), error)

    def _content(self, file: _File) -> bytes:
        if file.size > _MAX_BYTES:
            raise BadTargets(
                f"the targets file {file.path} has {file.size} bytes; at most {_MAX_BYTES}"
            )
        try:
            return Path(file.path).read_bytes()
        except OSError as error:
            raise BadTargets(
                f"the targets file {file.path} cannot be read: {error.strerror}"
            ) from None

    def _targets(self, path: str, content: bytes) -> Iterator[Resource]:
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise BadTargets(f"{path}, line {line}: it is not UTF-8") from None
        is_json = path.endswith(".json")
        entries = _from_json(path, text) if is_json else _from_yaml(path, text)
        if not isinstance(entries, list):
            raise BadTargets(
                f"{path}, line 1: it must be a list of entries with targets and labels, "
                f"not {type(entries).__name__}"
            )
        for number, entry in enumerate(entries):
            try:
                yield from self._entry(entry)
            except _Wrong as wrong:
                line = (_json_line if is_json else _yaml_line)(text, number)
                raise BadTargets(f"{path}, line {line}, entry {number + 1}: {wrong}") from None

    def _entry(self, entry: Any) -> Iterator[Resource]:
        if not isinstance(entry, dict):
            _refuse("an entry", entry, "a mapping with targets and labels")
        if unknown := entry.keys() - {"targets", "labels"}:
            _refuse("the fields", ", ".join(sorted(map(str, unknown))), "targets and labels alone")
        targets, labels = entry.get("targets"), entry.get("labels") or {}
        if not isinstance(targets, list):
            _refuse("targets", targets, "a list")
        if not isinstance(labels, dict):
            _refuse("labels", labels, "a mapping of texts")
        for name, value in labels.items():
            if not (isinstance(name, str) and isinstance(value, str)):
                _refuse(f"the label {name!r}", value, "a text; put it in quotes")
        visible = {name: value for name, value in labels.items() if not name.startswith("__")}
        attributes = MappingProxyType({"labels": MappingProxyType(visible)} if visible else {})
        for target in targets:
            try:
                _check_text(target)
                yield self.resource(target, labels, attributes)
            except _Wrong as wrong:
                raise _Wrong(f"the target {_shown(target)} is not usable: {wrong}") from None

    @abc.abstractmethod
    def resource(
        self, target: str, labels: Mapping[str, str], attributes: Mapping[str, Any]
    ) -> Resource:
        """Return the resource of one target, which is known to be a legal text."""


class HTTPTargets(_FileTargets):
    """URLs that answer in JSON, from files: ``http-targets:///etc/hashring/targets.json``."""

    kind = HTTP
    name = "http-targets"

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
        raise BadTargets(
            f"{path}: two targets differ only in a secret, so that both would be "
            f"{resource.id!r}; give secrets in headers, or spell the addresses differently"
        )


def _refuse(what: str, value: object, wanted: str) -> NoReturn:
    raise _Wrong(f"{what} must be {wanted}, not {_shown(value)}")


def _from_json(path: str, text: str) -> Any:
    if sum(map(text.count, ",[{")) > _MAX_VALUES:
        raise BadTargets(
            f"{path}, line 1: it has more than {_MAX_VALUES} values; let several files have them"
        )
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise BadTargets(
            f"{path}, line {error.lineno}: it is not JSON ({error.msg}, column {error.colno}); "
            "is it half written? Write to another file and rename that"
        ) from None
    except RecursionError:
        raise BadTargets(f"{path}, line 1: it is nested too deeply") from None
    except ValueError:  # of more digits than Python reads
        raise BadTargets(f"{path}, line 1: a number in it has too many digits") from None


def _from_yaml(path: str, text: str) -> Any:
    try:
        bounded_yaml.check(text, max_bytes=_MAX_BYTES)
        return yaml.load(text, Loader=_YAML_LOADER)  # noqa: S506 - either one is a safe loader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else 1
        problem = getattr(error, "problem", None) or "unreadable"
        raise BadTargets(
            f"{path}, line {line}: it is not YAML ({problem}); "
            "is it half written? Write to another file and rename that"
        ) from None
    except (RecursionError, ValueError) as error:
        raise BadTargets(f"{path}, line 1: it is not usable YAML: {error}") from None


def _json_line(text: str, number: int) -> int:
    """Return the line on which an entry of a list begins; the text is known to be legal."""
    decoder = json.JSONDecoder()
    blanks = re.compile(r"[\s,]*")
    place = text.index("[") + 1
    for _ in range(number):
        place = decoder.raw_decode(text, blanks.match(text, place).end())[1]  # type: ignore[union-attr]
    place = blanks.match(text, place).end()  # type: ignore[union-attr]
    return text.count("\n", 0, place) + 1


def _yaml_line(text: str, number: int) -> int:
    whole: Any = yaml.compose(text, Loader=_YAML_LOADER)
    return int(whole.value[number].start_mark.line) + 1
