"""HTTP/JSON endpoints as meters, declared in the format of Ceilometer's dynamic pollsters.

A definition names a meter, a URL and where in the answer the values lie. Definitions that ask for
the same thing share one request: an answer is measured as often as there are definitions, but is
asked for once a resource and cycle. Whatever is wrong with one entry of an answer costs that entry
alone.

This module reads answers. How definitions are read is the business of ``http_definitions``, how a
request is bounded that of ``fetch``, how a value is found in an answer that of ``attributes``.
"""

from __future__ import annotations

import functools
import json
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from hashring.telemetry import http
from hashring.telemetry.errors import BadResponse, Missing, Unusable
from hashring.telemetry.http import late
from hashring.telemetry.model.resource import Resource
from hashring.telemetry.model.sample import Measurement, Meter
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.plugin import AsyncPollster, Discovery
from hashring.telemetry.sources.web import answers, json_values
from hashring.telemetry.sources.web.attributes import Attribute
from hashring.telemetry.sources.web.fetch import Fetcher, joined, same_origin
from hashring.telemetry.sources.web.http_definitions import load_definitions, usable_definitions
from hashring.telemetry.sources.web.http_fields import (
    NAMESPACES,
    HTTPDefinition,
    Request,
)
from hashring.telemetry.sources.web.targets import HTTP
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


class HTTPPollster(AsyncPollster):
    """Asks for one thing, and tells the meters of all definitions that ask for it.

    Args:
        settings: what the agent is told to do.
        definitions: at least one, all of one :class:`Request`; see :meth:`make`.
        fetcher: shared by pollsters that are closed together.

    Attributes:
        skipped: entries that were no measurement, by ``(meter, why)``; each pair is logged once.
    """

    namespaces = frozenset(NAMESPACES)
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
        self._fetcher = fetcher or _fetcher(settings)
        late.load()  # a definition is there, so that something will be asked
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
                http.silence_unchecked()
        fetcher = _fetcher(settings)
        return [cls(settings, found, fetcher) for found in groups.values()]

    def close(self) -> None:
        """Close the connections."""
        self._fetcher.close()
        super().close()

    async def measure(self, resource: Resource) -> list[Measurement]:
        """Ask once, and measure what the answer holds.

        Raises:
            FetchFailed: no answer, not in time, too large, or a status other than 2xx.
            BadResponse: the answer cannot be read, or its pages do not end; or no definition
                finds its entries in it.
        """
        deadline = self._fetcher.deadline(self._request.timeout)
        with answers.reading(resource.id, deadline) as reading:
            pages = await self._pages(self._request.url_for(resource), deadline, reading)
            number = len(self._definitions)
            return await reading.read(
                lambda: self._told(pages, resource, reading),
                # Each value is a sample of each definition at most; a text may be one without one.
                samples=number * (reading.values + len(pages)),
                of=number,
            )

    def _told(
        self, pages: list[Any], resource: Resource, reading: answers.Reading
    ) -> list[Measurement]:
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

    async def _pages(self, url: str, deadline: float, reading: answers.Reading) -> list[Any]:
        request, first, seen = self._request, url, {url}
        took = reading.took_json if "json" in request.handlers else reading.took
        pages: list[Any] = []
        while True:
            reading.begin()
            fetched = await self._fetcher.get(
                url,
                deadline=deadline,
                headers=self._headers,
                accept="application/json, */*;q=0.1",
                verify=request.verify,
                took=took,
            )
            pages.append(
                await reading.read(
                    functools.partial(_parsed, fetched.body, url, request.handlers, reading)
                )
            )
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
        """Return an id that an entry has; only a text or a number is one."""
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


_READERS: Mapping[str, Callable[[str], Any]] = {
    "json": json_values.parsed,
    "text": lambda text: [{"out": text}],
}


def _fetcher(settings: Settings) -> Fetcher:
    return Fetcher(
        timeout=settings.poll_timeout,
        max_bytes=answers.MAX_ANSWER,
        per_host=settings.max_per_host,
    )


def _parsed(body: bytes, url: str, handlers: Sequence[str], reading: answers.Reading) -> Any:
    with reading.undisturbed():
        return _read(body, url, handlers)


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
        return json_values.number_of(value)
    try:
        return definition.value_mapping.get(value, definition.default_value)
    except TypeError:  # a list or an object, which no mapping has
        return definition.default_value
