"""HTTPDefinition: a meter at HTTP/JSON endpoints, as a value; and how its fields are read.

``docs/agents/http.md`` has the fields as they are written. This module knows no file and asks no
endpoint anything.
"""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urljoin, urlsplit

from hashring.telemetry.errors import BadAttribute, BadDefinition, Unusable
from hashring.telemetry.model.fields import Fields
from hashring.telemetry.model.resource import Resource
from hashring.telemetry.model.sample import Meter, MeterType
from hashring.telemetry.model.suggestions import closest
from hashring.telemetry.sources.web.attributes import Attribute
from hashring.telemetry.sources.web.json_values import number_of
from hashring.telemetry.sources.web.targets import HTTP, url_of
from hashring.url import masked

__all__ = [
    "FIELDS",
    "NAMESPACES",
    "UNSUPPORTED",
    "DefinitionReader",
    "HTTPDefinition",
    "Request",
]

log = logging.getLogger(__name__)

NAMESPACES = ("central", "compute")
"""The agents that there are."""


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


_NAME = re.compile(r"[\w-]+(\.[\w-]+)*(?P<item>\.\{(?P<attribute>[\w-]+)\})?", re.ASCII)
_ITEMS = re.compile(r"\[(?P<items>[^\[\]]+)\]\.(?P<value>.+)", re.DOTALL)
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)

FIELDS = frozenset(
    (
        *("name", "sample_type", "unit", "value_attribute", "url_path", "endpoint_type"),
        *("metadata_fields", "metadata_mapping", "preserve_mapped_metadata", "headers"),
        *("response_entries_key", "user_id_attribute", "project_id_attribute", "timeout"),
        *("resource_id_attribute", "value_mapping", "default_value", "skip_sample_values"),
        *("next_sample_url_attribute", "authentication", "verify_ssl", "ssl_certificate"),
        *("response_handlers", "namespaces"),
    )
)
UNSUPPORTED: Mapping[str, str] = {
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


class DefinitionReader(Fields):
    """The fields of one definition, and the definition that they make.

    Args:
        place: file and line, for messages.
        value: what should be a mapping.
        environment: where the secrets come from.

    Raises:
        BadDefinition: it is no mapping, has no name, or a field that is a typo or not supported.
    """

    spelled = "field {!r}"

    def __init__(self, place: str, value: Any, environment: Mapping[str, str]) -> None:
        super().__init__(value, place, "definition")
        self.environment = environment
        name = self.get("name")
        if not isinstance(name, str) or not (match := _NAME.fullmatch(name)):
            raise self.wrong(
                "name", "a dotted name, such as dynamic.magnum.cluster, perhaps ending in .{key}"
            )
        self.name = name
        self.name_match = match
        self.place = f"{place}, definition {name!r}"
        self.check(FIELDS)

    def check(self, known: Collection[str]) -> None:
        """Refuse what is not supported or looks like a typo; log what else nobody will read."""
        for field in self:
            if field in UNSUPPORTED:
                raise BadDefinition(
                    f"{self.place}: field {field!r} is not supported: {UNSUPPORTED[field]}"
                )
            if field in known:
                continue
            if near := closest(field, known):
                raise BadDefinition(
                    f"{self.place}: field {field!r} is unknown; did you mean {near!r}?"
                )
            log.warning("%s: field %r is unknown, and is ignored", self.place, field)

    def definition(self) -> HTTPDefinition:
        """Return the definition as a value."""
        types = [str(type_) for type_ in MeterType]
        sample_type = self.get("sample_type")
        if sample_type not in types:
            raise self.wrong("sample_type", f"one of {', '.join(types)}")
        name, items, value = self.name, None, self.any_text("value_attribute")
        item_name = self.name_match["attribute"] or ""
        match = _ITEMS.fullmatch(value)
        if bool(match) != bool(item_name):
            raise self.wrong(
                "value_attribute",
                "'[list].value' where the name ends in .{attribute}, and only there",
            )
        if match:
            items, value = self.attribute("value_attribute", match["items"]), match["value"]
        return HTTPDefinition(
            place=self.place,
            meter=Meter(name, MeterType(sample_type), self.any_text("unit", may_be_empty=True)),
            request=self.request(),
            value=self.attribute("value_attribute", value),
            items=items,
            item_name=item_name,
            entries=self.optional_attribute("response_entries_key", None),
            metadata=self.metadata(),
            metadata_mapping=self.metadata_mapping(),
            preserve_mapped_metadata=self.boolean("preserve_mapped_metadata", default=True),
            user_id=self.optional_attribute("user_id_attribute", "user_id"),
            project_id=self.optional_attribute("project_id_attribute", "project_id"),
            resource_id=self.optional_attribute("resource_id_attribute", "id"),
            value_mapping=self.value_mapping(),
            default_value=self.number("default_value", self.get("default_value", -1)),
            skip_sample_values=tuple(self.items("skip_sample_values")),
        )

    def request(self) -> Request:
        """Return what the definition asks for."""
        if "endpoint_type" in self:
            log.warning(
                "%s: endpoint_type %r is not looked up: the endpoints are the HTTP resources that "
                "the source names",
                self.place,
                self.get("endpoint_type"),
            )
        next_page = self.optional_attribute("next_sample_url_attribute", None)
        handlers = tuple(self.items("response_handlers")) or ("json",)
        for handler in handlers:
            if handler not in ("json", "text"):
                raise self.wrong("response_handlers", "a list of json and text (no xml)")
        timeout = self.get("timeout")
        if timeout is not None and self.number("timeout", timeout) <= 0:
            raise self.wrong("timeout", "a positive number of seconds")
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
        url = self.get("url_path")
        if url is None:
            return ""
        if not isinstance(url, str) or not url.isprintable() or " " in url:
            raise self.wrong("url_path", "a URL or a path, without blanks")
        if _VARIABLE.search(url):
            raise self.wrong("url_path", "free of ${VARIABLES}: secrets belong into headers")
        try:
            parts = urlsplit(url)
            legal = parts.scheme in ("http", "https") and bool(parts.hostname)
            _ = parts.port
        except ValueError:
            raise self.wrong("url_path", "a URL or a path") from None
        if not legal and (parts.scheme or parts.netloc):
            raise self.wrong("url_path", "an http or https URL, or a path")
        return url

    def headers(self) -> tuple[tuple[str, str], ...]:
        """Return the headers, with what the environment adds."""
        given = self.get("headers")
        given = [] if given is None else given
        mappings = given if isinstance(given, list) else [given]
        found: dict[str, tuple[str, str]] = {}
        for mapping in mappings:
            if not isinstance(mapping, dict):
                raise self.hidden("headers", "a mapping of names and values, or a list of such")
            for name, value in mapping.items():
                if isinstance(value, bool) or not isinstance(value, str | int | float):
                    raise self.hidden("headers", f"a mapping; the value of {name!r} is not a text")
                found[str(name).lower()] = self.header("headers", name, self.filled(str(value)))
        authentication = self.get("authentication")
        if authentication is not None:
            name, value = self.authentication(authentication)
            found[name.lower()] = self.header("authentication", name, value)
        return tuple(sorted(found.values()))

    def authentication(self, given: Any) -> tuple[str, str]:
        """Return the header that proves who asks."""
        known = {"header", "from_env", "prefix"}
        if not isinstance(given, dict) or given.keys() - known or "from_env" not in given:
            raise self.hidden("authentication", "a mapping of from_env, header, prefix")
        if not all(isinstance(value, str) for value in given.values()):
            raise self.hidden("authentication", "a mapping of texts")
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
            raise self.hidden("headers", "texts in which variables read ${NAME}")
        return _VARIABLE.sub(value, text)

    def header(self, field: str, name: Any, value: str) -> tuple[str, str]:
        """Return a header that can be sent."""
        if not isinstance(name, str) or not _HEADER.fullmatch(name):
            raise self.hidden(field, f"headers whose names are legal; {name!r} is not")
        legal = value == value.strip() and value.isprintable() and value.isascii()
        if not legal:
            raise self.hidden(
                field, f"headers without control characters; the value of {name!r} has some"
            )
        return name, value

    def verify(self) -> bool | str:
        """Return whether to check a server's certificate, and by what."""
        checks = self.boolean("verify_ssl", default=True)
        certificate = self.get("ssl_certificate")
        if certificate is None:
            return checks
        if not checks:
            raise self.wrong("ssl_certificate", "absent where verify_ssl is false")
        if not isinstance(certificate, str) or not Path(certificate).is_file():
            raise self.wrong("ssl_certificate", "a file of certificates that is there")
        return certificate

    def namespaces(self) -> frozenset[str]:
        """Return the agents that the definition is for."""
        given = self.get("namespaces", "central")
        names = given if isinstance(given, list) else [given]
        if not names or not all(name in NAMESPACES for name in names):
            raise self.wrong("namespaces", f"one or several of {', '.join(NAMESPACES)}")
        return frozenset(names)

    def metadata(self) -> tuple[tuple[str, Attribute], ...]:
        """Return the metadata's names and places."""
        given = self.items("metadata_fields")
        return tuple((str(field), self.attribute("metadata_fields", field)) for field in given)

    def metadata_mapping(self) -> Mapping[str, str]:
        """Return new names by old ones."""
        given = self.mapping("metadata_mapping")
        fields = self.items("metadata_fields")
        for name, new in given.items():
            if not (isinstance(new, str) and new):
                raise self.wrong("metadata_mapping", f"texts; the new name of {name!r} is not", new)
            if name not in fields:
                raise self.wrong("metadata_mapping", "of names in metadata_fields", name)
        return MappingProxyType(given)

    def value_mapping(self) -> Mapping[Any, float | int] | None:
        """Return volumes by values."""
        given = self.mapping("value_mapping")
        found = {key: self.number("value_mapping", value) for key, value in given.items()}
        return MappingProxyType(found) if found else None

    def number(self, field: str, value: Any) -> float | int:
        """Return a number, which may be written as a text."""
        try:
            return number_of(value)
        except Unusable:
            raise self.wrong(field, "a number, or numbers", value) from None

    def any_text(self, field: str, *, may_be_empty: bool = False) -> str:
        """Return a text that must be given."""
        value = self.get(field)
        if not isinstance(value, str) or not (value or may_be_empty):
            raise self.wrong(field, "a text")
        return value

    def attribute(self, field: str, text: Any) -> Attribute:
        """Return a place in an answer."""
        try:
            return Attribute(text)
        except BadAttribute as error:
            raise BadDefinition(f"{self.place}: field {field!r}: {error}") from None

    def optional_attribute(self, field: str, default: str | None) -> Attribute | None:
        """Return a place in an answer; an empty text means none."""
        text = self.get(field, default)
        return None if text in (None, "") else self.attribute(field, text)
