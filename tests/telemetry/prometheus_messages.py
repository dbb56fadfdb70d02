"""Prometheus's messages as the protobuf library reads and writes them: the oracle of our own code.

The fields are those of the published ``io/prometheus/client/metrics.proto`` (what is exposed) and
``io/prometheus/write/v2/types.proto`` with the ``prometheus.WriteRequest`` of 1.0 (what is written
to a receiver). Here they are tables, of which the library makes its classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.unknown_fields import UnknownFieldSet

from hashring.telemetry.sources.web.exposition_messages import number_text

_Fields = Mapping[str, tuple[int, str]]

_CLIENT: Mapping[str, _Fields] = {
    "LabelPair": {"name": (1, "string"), "value": (2, "string")},
    "Timestamp": {"seconds": (1, "int64"), "nanos": (2, "int32")},
    "Gauge": {"value": (1, "double")},
    "Counter": {
        "value": (1, "double"),
        "exemplar": (2, "Exemplar"),
        "created_timestamp": (3, "Timestamp"),
    },
    "Quantile": {"quantile": (1, "double"), "value": (2, "double")},
    "Summary": {
        "sample_count": (1, "uint64"),
        "sample_sum": (2, "double"),
        "quantile": (3, "*Quantile"),
        "created_timestamp": (4, "Timestamp"),
    },
    "Untyped": {"value": (1, "double")},
    "Histogram": {
        "sample_count": (1, "uint64"),
        "sample_count_float": (4, "double"),
        "sample_sum": (2, "double"),
        "bucket": (3, "*Bucket"),
        "created_timestamp": (15, "Timestamp"),
        "schema": (5, "sint32"),
        "zero_threshold": (6, "double"),
        "zero_count": (7, "uint64"),
        "zero_count_float": (8, "double"),
        "negative_span": (9, "*BucketSpan"),
        "negative_delta": (10, "*sint64"),
        "negative_count": (11, "*double"),
        "positive_span": (12, "*BucketSpan"),
        "positive_delta": (13, "*sint64"),
        "positive_count": (14, "*double"),
        "exemplars": (16, "*Exemplar"),
    },
    "Bucket": {
        "cumulative_count": (1, "uint64"),
        "cumulative_count_float": (4, "double"),
        "upper_bound": (2, "double"),
        "exemplar": (3, "Exemplar"),
    },
    "BucketSpan": {"offset": (1, "sint32"), "length": (2, "uint32")},
    "Exemplar": {"label": (1, "*LabelPair"), "value": (2, "double"), "timestamp": (3, "Timestamp")},
    "Metric": {
        "label": (1, "*LabelPair"),
        "gauge": (2, "Gauge"),
        "counter": (3, "Counter"),
        "summary": (4, "Summary"),
        "untyped": (5, "Untyped"),
        "histogram": (7, "Histogram"),
        "timestamp_ms": (6, "int64"),
    },
    "MetricFamily": {
        "name": (1, "string"),
        "help": (2, "string"),
        "type": (3, "int32"),  # an enumeration: the same on the wire
        "metric": (4, "*Metric"),
        "unit": (5, "string"),
    },
}

COUNTER, GAUGE, SUMMARY, UNTYPED, HISTOGRAM, GAUGE_HISTOGRAM = range(6)

_WRITE_V1: Mapping[str, _Fields] = {
    "WriteRequest": {"timeseries": (1, "*TimeSeries")},
    "TimeSeries": {"labels": (1, "*Label"), "samples": (2, "*Sample")},
    "Label": {"name": (1, "string"), "value": (2, "string")},
    "Sample": {"value": (1, "double"), "timestamp": (2, "int64")},
}

_WRITE_V2: Mapping[str, _Fields] = {
    "Request": {"symbols": (4, "*string"), "timeseries": (5, "*TimeSeries")},
    "TimeSeries": {
        "labels_refs": (1, "*uint32"),
        "samples": (2, "*Sample"),
        "metadata": (5, "Metadata"),
        "created_timestamp": (6, "int64"),
    },
    "Sample": {"value": (1, "double"), "timestamp": (2, "int64")},
    "Metadata": {"type": (1, "int32"), "help_ref": (3, "uint32"), "unit_ref": (4, "uint32")},
}


def _classes(package: str, messages: Mapping[str, _Fields], syntax: str) -> dict[str, Any]:
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name=package, package=package, syntax=syntax)
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            is_repeated, kind = kind.startswith("*"), kind.removeprefix("*")
            one = message.field.add(name=field, number=number)
            one.label = kinds.LABEL_REPEATED if is_repeated else kinds.LABEL_OPTIONAL
            if kind in messages:
                one.type, one.type_name = kinds.TYPE_MESSAGE, f".{package}.{kind}"
            else:
                one.type = getattr(kinds, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
        for name in messages
    }


CLIENT = _classes("io.prometheus.client", _CLIENT, "proto2")
"""As the published file has them: what repeats is not packed, and zeros are written."""

CLIENT_PACKED = _classes("io.prometheus.client", _CLIENT, "proto3")
"""As Prometheus itself has them: what repeats is packed, and zeros are left out."""

WRITE_V1 = _classes("prometheus", _WRITE_V1, "proto3")
WRITE_V2 = _classes("io.prometheus.write.v2", _WRITE_V2, "proto3")


def _length(size: int) -> bytes:
    found = bytearray()
    while size > 0x7F:
        found.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes((*found, size))


def delimited(families: Iterable[Any]) -> bytes:
    """Return messages one after the other, each behind its length: what a target answers."""
    parts = [family.SerializeToString() for family in families]
    return b"".join(_length(len(part)) + part for part in parts)


def family(classes: Mapping[str, Any], name: str, type_: int, *metrics: Any, unit: str = "") -> Any:
    """Return a message ``MetricFamily``."""
    found = classes["MetricFamily"](name=name, type=type_, help=f"What {name} is.", metric=metrics)
    if unit:
        found.unit = unit
    return found


def metric(classes: Mapping[str, Any], labels: Mapping[str, str], **value: Any) -> Any:
    """Return a message ``Metric`` with a value: ``gauge={"value": 1}``."""
    pairs = [classes["LabelPair"](name=name, value=text) for name, text in labels.items()]
    return classes["Metric"](label=pairs, **value)


_KINDS = ("counter", "gauge", "summary", "untyped", "histogram", "gaugehistogram")
_VALUES = {COUNTER: "counter", GAUGE: "gauge", UNTYPED: "untyped"}


def text_of(families: Iterable[Any]) -> str:
    """Return the same in the text format, as Prometheus's library for Go writes it.

    Of a histogram without bounds of its own, that is all observations, their sum and their number.
    """
    return "".join(
        f"# TYPE {one.name} {_KINDS[one.type]}\n"
        + "".join(line for each in one.metric for line in _lines(one, each))
        for one in families
        if one.metric
    )


def _lines(family: Any, metric: Any) -> Iterable[str]:
    own = [(pair.name, pair.value) for pair in metric.label]
    name = family.name
    if family.type in _VALUES:
        return [_line(name, own, getattr(metric, _VALUES[family.type]).value)]
    if family.type == SUMMARY:
        value = metric.summary
        lines = [
            _line(name, [*own, ("quantile", number_text(one.quantile))], one.value)
            for one in value.quantile
        ]
        count = value.sample_count
    else:
        value = metric.histogram
        count = value.sample_count_float if value.sample_count_float > 0 else value.sample_count
        bounds = [
            (
                one.upper_bound,
                one.cumulative_count_float
                if one.cumulative_count_float > 0
                else one.cumulative_count,
            )
            for one in value.bucket
        ]
        if math.inf not in [bound for bound, _ in bounds]:
            bounds.append((math.inf, count))
        lines = [
            _line(f"{name}_bucket", [*own, ("le", number_text(bound))], number)
            for bound, number in bounds
        ]
    return [*lines, _line(f"{name}_sum", own, value.sample_sum), _line(f"{name}_count", own, count)]


def _line(name: str, labels: Iterable[tuple[str, str]], value: float) -> str:
    def escaped(text: str) -> str:
        return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")

    shown = ",".join(f'{label}="{escaped(text)}"' for label, text in labels)
    number = (
        value
        if isinstance(value, int)
        else {math.inf: "+Inf", -math.inf: "-Inf"}.get(
            value, "NaN" if math.isnan(value) else repr(value)
        )
    )
    return f"{name}{{{shown}}} {number}\n" if shown else f"{name} {number}\n"


_NATIVE = {"schema", "zero_threshold", "zero_count", "zero_count_float"} | {
    f"{sign}_{what}" for sign in ("positive", "negative") for what in ("span", "delta", "count")
}


def may_stand_in_text(families: Sequence[Any]) -> bool:
    """Whether the text says the same.

    A space at the end of a name is none of it in a text, which has no units and no native
    histograms either.
    """
    metrics = [each for one in families for each in one.metric]
    names = {pair.name for each in metrics for pair in each.label} | {one.name for one in families}
    if any(one.unit for one in families):
        return False
    return all(name == name.strip() for name in names) and not any(
        len(UnknownFieldSet(each.histogram))
        or any(field.name in _NATIVE for field, _ in each.histogram.ListFields())
        for each in metrics
    )
