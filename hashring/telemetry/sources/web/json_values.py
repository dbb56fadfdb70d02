"""JSON as values that every sink can take: texts that are UTF-8, numbers of 64 bits.

orjson reads what is of the usual kind, where it is installed: several times as fast, and for a
fraction of the time in which no other thread runs. What it refuses, the standard library reads, and
says what is wrong. This module knows neither definitions nor answers.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from typing import Any

from hashring.telemetry.errors import Unusable

try:
    import orjson as _orjson
except ImportError:
    _orjson = None  # type: ignore[assignment]

__all__ = ["number_of", "parsed"]

_LONE = re.compile(r"\\u[dD][89a-fA-F]")  # may be half of a pair: no character, and no UTF-8
_EXACT_DIGITS = 18  # so many digits are an integer of 64 bits, whatever they are


def parsed(text: str) -> Any:
    r"""Return a document of which every part can be written as UTF-8 and as 64-bit numbers.

    >>> parsed('[1, 1e999, NaN, 10000000000000000000000, "\\ud800"]')
    [1, None, None, 1e+22, '\\ud800']
    """
    if _orjson is not None:
        # A number of more than 64 bits becomes a float there too. What is no JSON of the strict
        # kind (NaN, 1e999, half of a pair of surrogates) is an error there.
        with contextlib.suppress(ValueError):
            return _orjson.loads(text)
    found = _DECODER.decode(text)
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


# Made once: to make one takes as long as to read a small answer.
_DECODER = json.JSONDecoder(parse_constant=lambda _: None, parse_float=_finite, parse_int=_integer)


def number_of(value: Any) -> float | int:
    """Return a number, a text that is one, or 1 and 0 for true and false.

    >>> number_of("0x10")
    Traceback (most recent call last):
    ...
    hashring.telemetry.errors.Unusable: '0x10' is no number
    >>> number_of("17"), number_of(" 1.5 "), number_of(True)
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
