"""A sample as bytes in the spool, and back. Part of the spool's layout."""

from __future__ import annotations

import dataclasses
import json
import operator

from hashring.errors import BadArgument
from hashring.telemetry.model.sample import Meter, MeterType, Sample

__all__ = ["decoded", "encoded"]

# A payload is the list of a sample's fields. It costs a third of to_line, which makes an id and
# writes the time out, and it is shorter. A field that is added to the end of Sample, with a
# default, is read from older spools as that default.
_FIELDS = tuple(field.name for field in dataclasses.fields(Sample))
_METADATA = _FIELDS.index("metadata")
_fields_of = operator.attrgetter(*_FIELDS)
_to_json = json.JSONEncoder(separators=(",", ":")).encode


def encoded(sample: Sample) -> bytes:
    """Return a sample as bytes.

    Raises:
        BadArgument: it cannot be written as JSON.
    """
    values = list(_fields_of(sample))
    values[_METADATA] = dict(values[_METADATA])  # a read-only view of one cannot be written
    try:
        return _to_json(values).encode()
    except (TypeError, ValueError) as error:
        raise BadArgument(
            f"the sample {sample.meter.name} of {sample.resource_id} cannot be written as JSON: "
            f"{error}; see to what its pollster puts into metadata"
        ) from None


def decoded(payload: bytes) -> Sample:
    """Return the sample that these bytes are.

    Raises:
        KeyError, TypeError, ValueError: they are not one.
    """
    found = dict(zip(_FIELDS, json.loads(payload), strict=False))
    name, kind, unit = found["meter"]
    found["meter"] = Meter(name, MeterType(kind), unit)
    found["token"] = tuple(found["token"])
    return Sample(**found)
