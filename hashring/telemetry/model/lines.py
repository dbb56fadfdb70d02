"""Samples' ids and JSON lines, many at once: the plain-Python twin of ``_lines.pyx``.

Both offer :func:`ids` and :func:`rendered`, and one test suite runs over both. An id and a line are
those of :class:`~hashring.telemetry.model.sample.Sample`, byte for byte. This module knows columns,
but no batch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

__all__ = ["Texts", "ids", "rendered"]

Texts = Sequence["str | None"]
"""A column of texts; ``None``: the row has no text."""

_text = json.encoder.encode_basestring_ascii
_VARIANTS = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def ids(
    namespace: bytes,
    meters: Sequence[str],
    window: str,
    meter_of: Sequence[int],
    resource_id: str,
    resource_ids: Texts,
) -> list[str]:
    """Return the ids of samples of one window: UUIDs of version 5.

    Args:
        namespace: the 16 bytes that every id's name begins with.
        meters: the names' first parts, by meter.
        window: the names' last part.
        meter_of: by sample, the number of its meter.
        resource_id: of the samples that have none of their own.
        resource_ids: by sample, its own.

    Raises:
        UnicodeEncodeError: a text is not valid Unicode.
    """
    found = []
    sha1, variants = hashlib.sha1, _VARIANTS
    heads = [namespace + meter.encode() for meter in meters]
    end = window.encode()
    for meter, id_ in zip(meter_of, resource_ids, strict=True):
        if id_ is None:
            id_ = resource_id
        name = b"%b%d:%b%b" % (heads[meter], len(id_), id_.encode(), end)
        digest = sha1(name, usedforsecurity=False).hexdigest()
        found.append(
            f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-"
            f"{variants[digest[16]]}{digest[17:20]}-{digest[20:32]}"
        )
    return found


def rendered(
    namespace: bytes,
    meters: Sequence[str],
    window: str,
    meter_of: Sequence[int],
    resource_id: str,
    resource_ids: Texts,
    fronts: Sequence[str],
    volumes: Sequence[float],
    common: str,
    about: Sequence[Texts],
    ends: Sequence[str],
) -> bytes:
    r"""Return samples as lines of JSON in UTF-8, each with its ``\n``.

    Args:
        namespace: as of :func:`ids`, and so are the five that follow it.
        meters: the first parts of the ids' names, by meter.
        window: their last part.
        meter_of: by sample, the number of its meter.
        resource_id: of the samples that have none of their own.
        resource_ids: by sample, its own.
        fronts: what stands between id and volume, by meter.
        volumes: by sample.
        common: what stands behind the resource's id, in every line.
        about: columns of what follows in those lines that have it, as JSON.
        ends: what ends a line, by meter.
    """
    names = ("metadata", "project_id", "user_id")
    found = ids(namespace, meters, window, meter_of, resource_id, resource_ids)
    one = _text(resource_id)
    lines = []
    for row, (id_, meter, volume, own) in enumerate(
        zip(found, meter_of, volumes, resource_ids, strict=True)
    ):
        more = "".join(
            f',"{name}":{column[row]}'
            for name, column in zip(names, about, strict=True)
            if column and column[row]
        )
        # repr() is what JSON says of nearly all numbers, and a tenth of what json.dumps takes.
        shown = repr(volume) if type(volume) is int else json.dumps(volume)
        place = one if own is None else _text(own)
        lines.append(
            f'{{"id":"{id_}"{fronts[meter]}{shown},"resource_id":{place}{common}{more}{ends[meter]}'
        )
    return "".join(lines).encode()
