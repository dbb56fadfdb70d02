"""HTTP/JSON endpoints as meters, declared in the format of Ceilometer's dynamic pollsters.

A definition names a meter, a URL and where in the answer the values lie. Definitions that ask for
the same thing share one request: an answer is measured as often as there are definitions, but is
asked for once a resource and cycle. Whatever is wrong with a definition is said at the start, and
costs that definition alone; whatever is wrong with one entry of an answer costs that entry alone.

This room reads definitions and answers. How a request is bounded is the business of ``fetch``,
how a value is found in an answer that of ``attributes``.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import re
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urljoin, urlsplit

import urllib3
import yaml

from hashring.telemetry.errors import BadAttribute, BadDefinition, BadResponse, Missing, Unusable
from hashring.telemetry.model import bounded_yaml
from hashring.telemetry.model.documents import NoKeyTwice
from hashring.telemetry.model.resource import Resource
from hashring.telemetry.model.sample import Measurement, Meter, MeterType
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.model.suggestions import closest
from hashring.telemetry.plugin import Discovery, Pollster
from hashring.telemetry.sources.web import answers
from hashring.telemetry.sources.web.attributes import Attribute
from hashring.telemetry.sources.web.fetch import Fetcher, joined, same_origin
from hashring.telemetry.sources.web.targets import HTTP, url_of
from hashring.url import masked, shown

__all__ = [
    "BadResponse",
    "HTTPDefinition",
    "HTTPDefinitions",
    "HTTPPollster",
    "Request",
    "load_definitions",
]

log = logging.getLogger(__name__)

_MAX_PAGES = 1000
_NAMESPACES = ("central", "compute")


@dataclasses.dataclass(frozen=True, repr=False)
class Request:
    """What is asked for: equal for definitions that can be answered together.

    Attributes:
        url: absolute; or relative to each resource; or empty: the resource's own URL.
        headers: names and values; the values may be secrets.
        timeout: seconds for all pages, where it is less than the agent's ``poll_timeout``.
        verify: whether a server's certificate is checked; a text is a file of authorities.
        handlers: what to read an answer as, tried in order: ``"json"``, ``"text"``.
        next_page: where an answer has the URL of the next one.
        namespaces: the agents that ask.
    """

    url: str
    headers: tuple[tuple[str, str], ...] = ()
    timeout: float | None = None
    verify: bool | str = True
    handlers: tuple[str, ...] = ("json",)
    next_page: Attribute | None = None
    namespaces: frozenset[str] = frozenset({"central"})

    def __repr__(self) -> str:
        names = ", ".join(name for name, _ in self.headers)
        return f"Request({masked(self.url)!r}, headers: {names or 'none'})"

    @property
    def is_absolute(self) -> bool:
        """Whether it is its own and only resource."""
        return bool(self.url) and "://" in self.url

    @property
    def kind(self) -> str:
        """The kind of the resources that it is asked of."""
        return f"http-definition:{masked(self.url)}" if self.is_absolute else HTTP

    def url_for(self, resource: Resource) -> str:
        """Return the URL to ask for a resource.

        Example:
            >>> web1 = Resource("http://web1/api?x=1", "http")
            >>> Request("").url_for(web1), Request("v1/load").url_for(web1)
            ('http://web1/api?x=1', 'http://web1/api/v1/load')
            >>> Request("/status?full=1").url_for(web1)
            'http://web1/status?full=1'
        """
        if self.is_absolute:
            return self.url
        base = url_of(resource)
        if not self.url:
            return base
        parts = urlsplit(base)
        path = parts.path if parts.path.endswith("/") else f"{parts.path}/"
        return urljoin(parts._replace(path=path, query="", fragment="").geturl(), self.url)


@dataclasses.dataclass(frozen=True)
class HTTPDefinition:
    """One declared meter: see ``docs/agents/http.md`` for the fields as they are written.

    Attributes:
        place: file, line and name, for messages.
        meter: what it tells; where ``items`` is given, the name up to the part that an item names.
        request: what to ask.
        value: where an entry (or an item of it) has the value.
        items: where an entry has a list of objects, each with a value and a name of its own.
        item_name: the attribute that ends an item's meter name.
        entries: where an answer has its entries; ``None``: under its first attribute.
        metadata: the fields' names, and where entries have them.
        metadata_mapping: further names for them.
        preserve_mapped_metadata: whether the old names stay.
        user_id, project_id, resource_id: where entries have these; ``None``: nowhere.
        value_mapping: value -> volume; ``None``: the value is the volume.
        default_value: the volume of a value that is not mapped.
        skip_sample_values: values that are no samples.
    """

    place: str
    meter: Meter
    request: Request
    value: Attribute
    items: Attribute | None = None
    item_name: str = ""
    entries: Attribute | None = None
    metadata: tuple[tuple[str, Attribute], ...] = ()
    metadata_mapping: Mapping[str, str] = dataclasses.field(default_factory=dict, hash=False)
    preserve_mapped_metadata: bool = True
    user_id: Attribute | None = None
    project_id: Attribute | None = None
    resource_id: Attribute | None = None
    value_mapping: Mapping[Any, float | int] | None = dataclasses.field(default=None, hash=False)
    default_value: float | int = -1
    skip_sample_values: tuple[Any, ...] = dataclasses.field(default=(), hash=False)


# ---- reading definitions ----

_NAME = re.compile(r"[\w-]+(\.[\w-]+)*(?P<item>\.\{(?P<attribute>[\w-]+)\})?", re.ASCII)
_ITEMS = re.compile(r"\[(?P<items>[^\[\]]+)\]\.(?P<value>.+)", re.DOTALL)
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)

_FIELDS = frozenset(
    (
        *("name", "sample_type", "unit", "value_attribute", "url_path", "endpoint_type"),
        *("metadata_fields", "metadata_mapping", "preserve_mapped_metadata", "headers"),
        *("response_entries_key", "user_id_attribute", "project_id_attribute", "timeout"),
        *("resource_id_attribute", "value_mapping", "default_value", "skip_sample_values"),
        *("next_sample_url_attribute", "authentication", "verify_ssl", "ssl_certificate"),
        *("response_handlers", "namespaces"),
    )
)
_UNSUPPORTED: Mapping[str, str] = {
    "authentication_object": "give the header with 'authentication' or 'headers'",
    "authentication_parameters": "give the header with 'authentication' or 'headers'",
    "base_metadata": "nothing is evaluated as Python; write url_path as it is to be asked",
    "barbican_secret_id": "give the secret in an environment variable: 'authentication'",
    "extra_metadata_fields": "only what the answer itself holds can be metadata",
    "extra_metadata_fields_cache_seconds": "only what the answer itself holds can be metadata",
    "extra_metadata_fields_skip": "only what the answer itself holds can be metadata",
    "host_command": "no command is run; write a pollster plug-in",
    "module": "no module is loaded by a definition; give 'authentication' or 'headers'",
}


def load_definitions(
    settings: Settings, environment: Mapping[str, str] = os.environ
) -> tuple[HTTPDefinition, ...]:
    """Return the definitions in ``*.yaml`` files in ``settings.definition_dirs`` that concern the
    agent's namespaces, in the order of folders, file names and lines.

    Args:
        settings: what the agent is told to do. A folder that does not exist holds no definitions.
        environment: where the secrets come from.

    Raises:
        BadDefinition: a file or a definition is not usable; the message names file, line,
            definition, field and value.
    """
    found = list(_each(settings, environment))
    for one in found:
        if isinstance(one, BadDefinition):
            raise one
    return tuple(one for one in found if isinstance(one, HTTPDefinition))


def usable_definitions(settings: Settings) -> tuple[HTTPDefinition, ...]:
    """Return what :func:`load_definitions` does, where each bad definition or file costs itself.

    Raises:
        BadDefinition: there are definitions, and none is usable.
    """
    found = list(_each(settings, os.environ))
    usable = tuple(one for one in found if isinstance(one, HTTPDefinition))
    bad = [one for one in found if isinstance(one, BadDefinition)]
    if bad and not usable:
        raise bad[0]
    for error in bad:
        log.error("%s; the other definitions are used", error)
    return usable


def _each(
    settings: Settings, environment: Mapping[str, str]
) -> Iterator[HTTPDefinition | BadDefinition]:
    """Yield each definition, or what is wrong with it."""
    found: dict[str, HTTPDefinition] = {}
    for folder in settings.definition_dirs:
        if not folder.is_dir():
            log.info("%s is not there: it holds no definitions of HTTP pollsters", folder)
            continue
        for path in sorted(folder.glob("*.yaml")):
            for one in _in_file(path, settings, environment):
                if isinstance(one, BadDefinition):
                    yield one
                    continue
                name = one.meter.name
                if name in found:
                    yield BadDefinition(
                        f"{one.place}: field 'name': {name!r} is defined already, "
                        f"in {found[name].place}"
                    )
                    continue
                found[name] = one
                yield one


class _Loader(NoKeyTwice, yaml.SafeLoader):
    """Plain values only, and no field twice in one definition."""


def _in_file(
    path: Path, settings: Settings, environment: Mapping[str, str]
) -> Iterator[HTTPDefinition | BadDefinition]:
    try:
        entries = _entries_of(path)
    except BadDefinition as error:
        yield error
        return
    for line, fields in entries:
        place = f"{path}, line {line}"
        if not isinstance(fields, dict):
            yield BadDefinition(f"{place}: a definition must be a mapping, not {fields!r:.100}")
            continue
        try:
            reader = _Reader(place, fields, environment)
            if not reader.namespaces() & set(settings.namespaces):
                continue
            definition = reader.definition()
        except BadDefinition as error:
            yield error
        else:
            yield definition


def _entries_of(path: Path) -> list[tuple[int, Any]]:
    """Return the definitions of a file as they are written, each with its line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        bounded_yaml.check(text)
        loader = _Loader(text)
        try:
            root: Any = loader.get_single_node()
            found = None if root is None else loader.construct_document(root)
        finally:
            loader.dispose()
    except OSError as error:
        raise BadDefinition(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BadDefinition(f"{path}: not UTF-8 at byte {error.start}") from None
    except (RecursionError, ValueError, OverflowError) as error:
        # What PyYAML itself does not catch: a date that does not exist, say.
        raise BadDefinition(f"{path} is not usable YAML: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else 1
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise BadDefinition(f"{path}, line {line}: it is not usable YAML: {problem}") from None
    if found is None:
        return []
    if not isinstance(found, list):
        raise BadDefinition(
            f"{path}, line 1: it must be a list of definitions (each begins with '- name:'), "
            f"not {type(found).__name__}"
        )
    return [
        (node.start_mark.line + 1, fields) for node, fields in zip(root.value, found, strict=True)
    ]


class _Reader:
    """Reads the fields of one definition; each error says where it stands."""

    def __init__(
        self, place: str, fields: Mapping[Any, Any], environment: Mapping[str, str]
    ) -> None:
        self.fields = fields
        self.environment = environment
        self.place = place
        name = fields.get("name")
        if not isinstance(name, str) or not (match := _NAME.fullmatch(name)):
            raise self.bad(
                "name", "a dotted name, such as dynamic.magnum.cluster, perhaps ending in .{key}"
            )
        self.name = match
        self.place = f"{place}, definition {name!r}"
        for field in fields:
            if field in _UNSUPPORTED:
                raise BadDefinition(
                    f"{self.place}: field {field!r} is not supported: {_UNSUPPORTED[field]}"
                )
            if field in _FIELDS:
                continue
            if near := closest(field, _FIELDS):
                raise BadDefinition(
                    f"{self.place}: field {field!r} is unknown; did you mean {near!r}?"
                )
            log.warning("%s: field %r is unknown, and is ignored", self.place, field)

    def bad(self, field: str, wanted: str, value: object = None) -> BadDefinition:
        """Return the error that a field is not what it must be."""
        if value is None and field not in self.fields:
            return BadDefinition(f"{self.place}: field {field!r} is missing; it must be {wanted}")
        found = self.fields[field] if value is None else value
        return BadDefinition(f"{self.place}: field {field!r} must be {wanted}, not {shown(found)}")

    def definition(self) -> HTTPDefinition:
        """Return the definition as a value."""
        types = [str(type_) for type_ in MeterType]
        sample_type = self.fields.get("sample_type")
        if sample_type not in types:
            raise self.bad("sample_type", f"one of {', '.join(types)}")
        name, items, value = self.name[0], None, self.text("value_attribute")
        item_name = self.name["attribute"] or ""
        match = _ITEMS.fullmatch(value)
        if bool(match) != bool(item_name):
            raise self.bad(
                "value_attribute",
                "'[list].value' where the name ends in .{attribute}, and only there",
            )
        if match:
            items, value = self.attribute("value_attribute", match["items"]), match["value"]
        return HTTPDefinition(
            place=self.place,
            meter=Meter(name, MeterType(sample_type), self.text("unit", may_be_empty=True)),
            request=self.request(),
            value=self.attribute("value_attribute", value),
            items=items,
            item_name=item_name,
            entries=self.optional_attribute("response_entries_key", None),
            metadata=self.metadata(),
            metadata_mapping=self.metadata_mapping(),
            preserve_mapped_metadata=self.boolean("preserve_mapped_metadata"),
            user_id=self.optional_attribute("user_id_attribute", "user_id"),
            project_id=self.optional_attribute("project_id_attribute", "project_id"),
            resource_id=self.optional_attribute("resource_id_attribute", "id"),
            value_mapping=self.value_mapping(),
            default_value=self.number("default_value", self.fields.get("default_value", -1)),
            skip_sample_values=tuple(self.list("skip_sample_values")),
        )

    def request(self) -> Request:
        """Return what the definition asks for."""
        if "endpoint_type" in self.fields:
            log.warning(
                "%s: endpoint_type %r is not looked up: the endpoints are the HTTP resources that "
                "the source names",
                self.place,
                self.fields["endpoint_type"],
            )
        next_page = self.optional_attribute("next_sample_url_attribute", None)
        handlers = tuple(self.list("response_handlers")) or ("json",)
        for handler in handlers:
            if handler not in ("json", "text"):
                raise self.bad("response_handlers", "a list of json and text (no xml)")
        timeout = self.fields.get("timeout")
        if timeout is not None and self.number("timeout", timeout) <= 0:
            raise self.bad("timeout", "a positive number of seconds")
        return Request(
            url=self.url(),
            headers=self.headers(),
            timeout=None if timeout is None else float(timeout),
            verify=self.verify(),
            handlers=handlers,
            next_page=next_page,
            namespaces=self.namespaces(),
        )

    def url(self) -> str:
        """Return the URL, absolute or not."""
        url = self.fields.get("url_path")
        if url is None:
            return ""
        if not isinstance(url, str) or not url.isprintable() or " " in url:
            raise self.bad("url_path", "a URL or a path, without blanks")
        if _VARIABLE.search(url):
            raise self.bad("url_path", "free of ${VARIABLES}: secrets belong into headers")
        try:
            parts = urlsplit(url)
            legal = parts.scheme in ("http", "https") and bool(parts.hostname)
            _ = parts.port
        except ValueError:
            raise self.bad("url_path", "a URL or a path") from None
        if not legal and (parts.scheme or parts.netloc):
            raise self.bad("url_path", "an http or https URL, or a path")
        return url

    def headers(self) -> tuple[tuple[str, str], ...]:
        """Return the headers, with what the environment adds."""
        given = self.fields.get("headers")
        given = [] if given is None else given
        mappings = given if isinstance(given, list) else [given]
        found: dict[str, tuple[str, str]] = {}
        for mapping in mappings:
            if not isinstance(mapping, dict):
                raise self.secret("headers", "a mapping of names and values, or a list of such")
            for name, value in mapping.items():
                if isinstance(value, bool) or not isinstance(value, str | int | float):
                    raise self.secret("headers", f"a mapping; the value of {name!r} is no text")
                found[str(name).lower()] = self.header("headers", name, self.filled(str(value)))
        authentication = self.fields.get("authentication")
        if authentication is not None:
            name, value = self.authentication(authentication)
            found[name.lower()] = self.header("authentication", name, value)
        return tuple(sorted(found.values()))

    def authentication(self, given: Any) -> tuple[str, str]:
        """Return the header that proves who asks."""
        known = {"header", "from_env", "prefix"}
        if not isinstance(given, dict) or given.keys() - known or "from_env" not in given:
            raise self.secret("authentication", "a mapping of from_env, header, prefix")
        if not all(isinstance(value, str) for value in given.values()):
            raise self.secret("authentication", "a mapping of texts")
        secret = self.filled(f"${{{given['from_env']}}}")
        return given.get("header", "Authorization"), f"{given.get('prefix', '')}{secret}"

    def filled(self, text: str) -> str:
        """Return a text with the environment's variables in it."""

        def value(match: re.Match[str]) -> str:
            if match[1] not in self.environment:
                raise BadDefinition(
                    f"{self.place}: the environment variable {match[1]} is not set; set it for "
                    "the agent, or take it out of headers and authentication"
                )
            return self.environment[match[1]]

        if "${" in _VARIABLE.sub("", text):
            raise self.secret("headers", "texts in which variables read ${NAME}")
        return _VARIABLE.sub(value, text)

    def header(self, field: str, name: Any, value: str) -> tuple[str, str]:
        """Return a header that can be sent."""
        if not isinstance(name, str) or not _HEADER.fullmatch(name):
            raise self.secret(field, f"headers whose names are legal; {name!r} is not")
        legal = value == value.strip() and value.isprintable() and value.isascii()
        if not legal:
            raise self.secret(
                field, f"headers without control characters; the value of {name!r} has some"
            )
        return name, value

    def secret(self, field: str, wanted: str) -> BadDefinition:
        """Return the error that a field is wrong whose value may be a secret: it is not shown."""
        return BadDefinition(f"{self.place}: field {field!r} must be {wanted} (value not shown)")

    def verify(self) -> bool | str:
        """Return whether to check a server's certificate, and by what."""
        checks = self.boolean("verify_ssl")
        certificate = self.fields.get("ssl_certificate")
        if certificate is None:
            return checks
        if not checks:
            raise self.bad("ssl_certificate", "absent where verify_ssl is false")
        if not isinstance(certificate, str) or not Path(certificate).is_file():
            raise self.bad("ssl_certificate", "a file of certificates that is there")
        return certificate

    def namespaces(self) -> frozenset[str]:
        """Return the agents that the definition is for."""
        given = self.fields.get("namespaces", "central")
        names = given if isinstance(given, list) else [given]
        if not names or not all(name in _NAMESPACES for name in names):
            raise self.bad("namespaces", f"one or several of {', '.join(_NAMESPACES)}")
        return frozenset(names)

    def metadata(self) -> tuple[tuple[str, Attribute], ...]:
        """Return the metadata's names and places."""
        given = self.list("metadata_fields")
        return tuple((str(field), self.attribute("metadata_fields", field)) for field in given)

    def metadata_mapping(self) -> Mapping[str, str]:
        """Return new names by old ones."""
        given = self.mapping("metadata_mapping")
        fields = self.list("metadata_fields")
        for name, new in given.items():
            if not (isinstance(new, str) and new):
                raise self.bad("metadata_mapping", f"texts; the new name of {name!r} is not", new)
            if name not in fields:
                raise self.bad("metadata_mapping", "of names in metadata_fields", name)
        return MappingProxyType(given)

    def value_mapping(self) -> Mapping[Any, float | int] | None:
        """Return volumes by values."""
        given = self.mapping("value_mapping")
        found = {key: self.number("value_mapping", value) for key, value in given.items()}
        return MappingProxyType(found) if found else None

    def number(self, field: str, value: Any) -> float | int:
        """Return a number, which may be written as a text."""
        try:
            return _number(value)
        except Unusable:
            raise self.bad(field, "a number, or numbers", value) from None

    def boolean(self, field: str) -> bool:
        """Return a boolean that is true where it is not given."""
        value = self.fields.get(field, True)
        if not isinstance(value, bool):
            raise self.bad(field, "true or false")
        return value

    def text(self, field: str, *, may_be_empty: bool = False) -> str:
        """Return a text that must be given."""
        value = self.fields.get(field)
        if not isinstance(value, str) or not (value or may_be_empty):
            raise self.bad(field, "a text")
        return value

    def list(self, field: str) -> list[Any]:
        """Return a list that is empty where it is not given."""
        value = self.fields.get(field)
        if value is not None and not isinstance(value, list):
            raise self.bad(field, "a list")
        return value or []

    def mapping(self, field: str) -> dict[Any, Any]:
        """Return a mapping that is empty where it is not given."""
        value = self.fields.get(field)
        if value is not None and not isinstance(value, dict):
            raise self.bad(field, "a mapping")
        return value or {}

    def attribute(self, field: str, text: Any) -> Attribute:
        """Return a place in an answer."""
        try:
            return Attribute(text)
        except BadAttribute as error:
            raise BadDefinition(f"{self.place}: field {field!r}: {error}") from None

    def optional_attribute(self, field: str, default: str | None) -> Attribute | None:
        """Return a place in an answer; an empty text means none."""
        text = self.fields.get(field, default)
        return None if text in (None, "") else self.attribute(field, text)


# ---- finding what definitions are asked of ----


class HTTPDefinitions(Discovery):
    """The absolute URLs of the definitions, each its own resource: ``http-definitions``."""

    finds_addresses = True

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        requests = [found.request for found in usable_definitions(settings)]
        kinds = {masked(found.url): found.kind for found in requests if found.is_absolute}
        self._resources = tuple(Resource(id_, kind) for id_, kind in kinds.items())

    def discover(self, parameter: str = "") -> tuple[Resource, ...]:
        """Return the URLs: always the very same object."""
        return self._resources


# ---- measuring ----


class HTTPPollster(Pollster):
    """Asks for one thing, and tells the meters of all definitions that ask for it.

    Args:
        settings: what the agent is told to do.
        definitions: at least one, all of one :class:`Request`; see :meth:`make`.
        fetcher: shared by pollsters that are closed together.

    Attributes:
        skipped: entries that were no measurement, by ``(meter, why)``; each pair is logged once.
    """

    namespaces = frozenset(_NAMESPACES)
    kinds = frozenset({HTTP})

    def __init__(
        self,
        settings: Settings,
        definitions: Sequence[HTTPDefinition],
        fetcher: Fetcher | None = None,
    ) -> None:
        super().__init__(settings)
        self._definitions = tuple(definitions)
        self._request = request = self._definitions[0].request
        self._headers = dict(request.headers)
        self._fetcher = fetcher or Fetcher(
            timeout=settings.poll_timeout, max_bytes=answers.MAX_ANSWER
        )
        self._lock = threading.Lock()
        self.skipped: Counter[tuple[str, str]] = Counter()
        self.namespaces = request.namespaces
        self.kinds = frozenset({request.kind})
        self.default_discovery = "http-definitions" if request.is_absolute else ""
        self.meters = tuple(found.meter for found in definitions if found.items is None)
        # A definition that names its meters by what it finds is alone: see make().
        for definition in definitions:
            if definition.items is not None:
                self.prefix = definition.meter.name.partition("{")[0]

    @classmethod
    def make(cls, settings: Settings) -> Iterable[HTTPPollster]:
        """Return a pollster for each thing that the definitions ask for.

        Raises:
            BadDefinition: see :func:`usable_definitions`.
        """
        groups: dict[tuple[Request, str], list[HTTPDefinition]] = {}
        for definition in usable_definitions(settings):
            alone = definition.meter.name if definition.items is not None else ""
            groups.setdefault((definition.request, alone), []).append(definition)
            if definition.request.verify is False:
                log.warning("%s: the server's certificate is not checked", definition.place)
                warnings.simplefilter("ignore", urllib3.exceptions.InsecureRequestWarning)
        fetcher = Fetcher(timeout=settings.poll_timeout, max_bytes=answers.MAX_ANSWER)
        return [cls(settings, found, fetcher) for found in groups.values()]

    def close(self) -> None:
        """Close the connections."""
        self._fetcher.close()

    def poll(self, resource: Resource) -> list[Measurement]:
        """Ask once, and measure what the answer holds.

        Raises:
            FetchFailed: no answer, not in time, too large, or a status other than 2xx.
            BadResponse: the answer cannot be read, or its pages do not end; or no definition
                finds its entries in it.
        """
        deadline = self._fetcher.deadline(self._request.timeout)
        with answers.reading(resource.id, deadline) as reading:
            pages = self._pages(self._request.url_for(resource), deadline, reading)
            measured: list[Measurement] = []
            problems: list[BadResponse] = []
            for definition in self._definitions:
                try:
                    entries = [entry for page in pages for entry in _entries(page, definition)]
                except (Missing, Unusable) as error:
                    self._skip(definition, "no entries", str(error), resource)
                    problems.append(BadResponse(f"{resource.id}: {definition.meter.name}: {error}"))
                    continue
                with reading.among_few():
                    found = self._measured(definition, entries, resource, reading)
                    measured.extend(reading.kept(found))
        if len(problems) == len(self._definitions):
            raise problems[0]
        return measured

    def _pages(self, url: str, deadline: float, reading: answers.Reading) -> list[Any]:
        request, first, seen = self._request, url, {url}
        took = reading.took_json if "json" in request.handlers else reading.took
        pages: list[Any] = []
        while True:
            reading.begin()
            fetched = self._fetcher.get(
                url,
                deadline=deadline,
                headers=self._headers,
                accept="application/json, */*;q=0.1",
                verify=request.verify,
                took=took,
            )
            with reading.undisturbed():
                pages.append(_read(fetched.body, url, request.handlers))
            if request.next_page is None:
                return pages
            following = self._following(pages[-1], first, fetched.url, request.next_page)
            if following is None:
                return pages
            if following in seen:
                raise BadResponse(f"{masked(url)}: the next page is {masked(following)}, again")
            if len(pages) >= _MAX_PAGES:
                raise BadResponse(f"{masked(url)}: more than {_MAX_PAGES} pages")
            url = following
            seen.add(url)

    def _following(self, page: Any, first: str, url: str, attribute: Attribute) -> str | None:
        try:
            link = attribute.of(page)
        except Missing:
            return None
        except Unusable as error:
            raise BadResponse(f"{masked(url)}: the next page: {error}") from None
        if link is None or link == "":
            return None
        if not isinstance(link, str):
            raise BadResponse(f"{masked(url)}: the next page is no URL but {shown(link, 100)}")
        try:
            following = joined(url, link)
            is_ours = same_origin(first, following)
        except ValueError:
            raise BadResponse(
                f"{masked(url)}: the next page is no URL but {shown(link, 100)}"
            ) from None
        # An answer must not send our headers, which may be secrets, to wherever it likes; nor may
        # one that came from elsewhere by a redirect.
        if not is_ours:
            raise BadResponse(
                f"{masked(url)}: the next page {masked(following)} is at another server; where "
                'that is right, mend it: next_sample_url_attribute: "next | value.replace(...)"'
            )
        return following

    def _measured(
        self,
        definition: HTTPDefinition,
        entries: Sequence[Any],
        resource: Resource,
        reading: answers.Reading,
    ) -> Iterator[Measurement]:
        told: set[tuple[str, str | None]] = set()
        labels = resource.attributes.get("labels", {})
        for index, entry in enumerate(entries):
            if not index % 1000:
                reading.look()
            id_ = self._text(definition.resource_id, entry)
            if id_ is None and len(entries) > 1:
                id_ = f"{resource.id}#{index}"
            about: tuple[Any, ...] | None = None
            for meter, found in self._values(definition, entry, resource):
                if (meter.name, id_) in told:
                    self._skip(definition, "repeated", f"{id_} stands twice", resource)
                    continue
                told.add((meter.name, id_))
                about = about or (
                    MappingProxyType({**labels, **_metadata(definition, entry)}),
                    self._text(definition.project_id, entry),
                    self._text(definition.user_id, entry),
                )
                yield Measurement(meter, found, id_, *about)

    def _values(
        self, definition: HTTPDefinition, entry: Any, resource: Resource
    ) -> Iterator[tuple[Meter, float | int]]:
        try:
            if definition.items is None:
                found: list[tuple[Meter, Any]] = [(definition.meter, entry)]
            else:
                found = list(_items(definition, entry))
        except (Missing, Unusable) as error:
            self._skip(definition, "no list", str(error), resource)
            return
        for meter, item in found:
            try:
                value = definition.value.of(item)
                if value not in definition.skip_sample_values:
                    yield meter, _volume(definition, value)
            except Missing as error:
                self._skip(definition, "no value", str(error), resource)
            except Unusable as error:
                self._skip(definition, "unusable value", str(error), resource)

    @staticmethod
    def _text(attribute: Attribute | None, entry: Any) -> str | None:
        """Return an id that an entry has; what is no text or number is none."""
        if attribute is None:
            return None
        try:
            found = attribute.of(entry)
        except (Missing, Unusable):
            return None
        if isinstance(found, bool) or not isinstance(found, str | int | float):
            return None
        return str(found) or None

    def _skip(self, definition: HTTPDefinition, why: str, detail: str, resource: Resource) -> None:
        with self._lock:
            self.skipped[definition.meter.name, why] += 1
            is_first = self.skipped[definition.meter.name, why] == 1
        if is_first:
            log.warning(
                "%s of %s: %s: %s (further ones are counted, not logged)",
                definition.meter.name,
                resource.id,
                why,
                detail if len(detail) <= 200 else f"{detail[:200]}...",
            )


_LONE = re.compile(r"\\u[dD][89a-fA-F]")  # may be half of a pair: no character, and no UTF-8
_EXACT_DIGITS = 18  # so many digits are an integer of 64 bits, whatever they are


def _json(text: str) -> Any:
    r"""Return a document of which every part can be written as UTF-8 and as 64-bit numbers.

    >>> _json('[1, 1e999, NaN, 10000000000000000000000, "\\ud800"]')
    [1, None, None, 1e+22, '\\ud800']
    """
    found = json.loads(text, parse_constant=lambda _: None, parse_float=_finite, parse_int=_integer)
    return _encodable(found) if _LONE.search(text) else found


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _integer(text: str) -> float | int | None:
    return int(text) if len(text) <= _EXACT_DIGITS else _narrow(int(text))


def _narrow(number: int) -> float | int | None:
    if -(2**63) <= number < 2**64:
        return number
    try:
        return float(number)
    except OverflowError:
        return None


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, list):
        return [_encodable(each) for each in value]
    if isinstance(value, dict):
        return {_encodable(key): _encodable(each) for key, each in value.items()}
    return value


_READERS: Mapping[str, Callable[[str], Any]] = {
    "json": _json,
    "text": lambda text: [{"out": text}],
}


def _read(body: bytes, url: str, handlers: Sequence[str]) -> Any:
    problem = ""
    for handler in handlers:
        try:
            return _READERS[handler](body.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            problem = f"{handler}: {type(error).__name__}"
            if isinstance(error, json.JSONDecodeError):
                problem = f"it is not JSON ({error.msg}, line {error.lineno})"
    raise BadResponse(f"{masked(url)}: the answer cannot be read: {problem}")


def _entries(page: Any, definition: HTTPDefinition) -> list[Any]:
    if isinstance(page, list):
        return page
    if definition.entries is not None:
        found = definition.entries.of(page)
    elif isinstance(page, dict):
        found = next(iter(page.values()), [])
        if not isinstance(found, list | dict):
            found = page  # a flat object is the one entry
    else:
        found = page
    return found if isinstance(found, list) else [found]


def _items(definition: HTTPDefinition, entry: Any) -> Iterator[tuple[Meter, Any]]:
    assert definition.items is not None
    items = definition.items.of(entry)
    if not isinstance(items, list):
        raise Unusable(f"{definition.items.text!r} is no list")
    prefix = definition.meter.name.partition("{")[0]
    for item in items:
        name = item.get(definition.item_name) if isinstance(item, dict) else None
        if not isinstance(name, str | int) or not str(name).isprintable() or name == "":
            raise Unusable(f"an item has no {definition.item_name!r} that could name a meter")
        if name not in definition.skip_sample_values:
            yield definition.meter._replace(name=f"{prefix}{name}"), item


def _metadata(definition: HTTPDefinition, entry: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, attribute in definition.metadata:
        try:
            found[name] = attribute.of(entry)
        except (Missing, Unusable):
            continue  # an entry may have a field or not: its value is what counts
    for name, new in definition.metadata_mapping.items():
        if name in found:
            found[new] = found[name]
            if not definition.preserve_mapped_metadata:
                del found[name]
    return found


def _volume(definition: HTTPDefinition, value: Any) -> float | int:
    if definition.value_mapping is None:
        return _number(value)
    try:
        return definition.value_mapping.get(value, definition.default_value)
    except TypeError:  # a list or an object, which no mapping has
        return definition.default_value


def _number(value: Any) -> float | int:
    """Return a number, a text that is one, or 1 and 0 for true and false.

    >>> _number("0x10")
    Traceback (most recent call last):
    ...
    hashring.telemetry.errors.Unusable: '0x10' is no number
    >>> _number("17"), _number(" 1.5 "), _number(True)
    (17, 1.5, 1)
    """
    if isinstance(value, bool):
        return int(value)
    found = _from_text(value) if isinstance(value, str) else value
    if isinstance(found, int):
        found = _narrow(found)
    if not isinstance(found, int | float) or not math.isfinite(found):
        raise Unusable(f"{value!r:.100} is no number")
    return found


def _from_text(text: str) -> float | int | None:
    for type_ in (int, float):
        try:
            # Python's own spelling 1_000 is no number elsewhere.
            return type_(text) if "_" not in text else None
        except ValueError:
            continue
    return None
