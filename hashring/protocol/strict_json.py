"""The JSON of a record, as strangers write it: parsed, typed and bounded before anybody looks.

Every member parses every other one's record, so whatever stands there must end as checked values
or as :class:`~hashring.errors.BadRecord`, never as another error, here or in whoever shows or
passes on what was read. The same bounds hold for what this process publishes. This module knows
JSON and no field of a record.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "MAX_DEPTH",
    "MAX_INTEGER_DIGITS",
    "MAX_META",
    "Malformed",
    "check_size",
    "check_value",
    "dumped",
    "parse",
]

MAX_META = 64 * 1024
"""The largest ``meta`` in bytes of JSON that a member may publish."""

MAX_DEPTH = 32
"""The most objects and lists within one another. Far below any recursion limit: whoever shows,
copies or dumps what was read need not think of it."""

MAX_INTEGER_DIGITS = 308
"""The most digits of an integer: each such one fits into a float."""

_MAX_VALUES = 128 * 1024
"""The most values in one record: more than its bytes can spell."""


class Malformed(ValueError):
    """What is wrong with a record, as words that follow its name."""


def parse(data: bytes) -> Any:
    """Return what a record's bytes say: JSON types, checked by :func:`check_value`.

    Raises:
        Malformed: it is not JSON; names a key twice in one object; has a number that is not
            finite or has too many digits, text that no UTF-8 can carry, or too many levels.

    Example:
        >>> parse(b'{"v": 1, "v": 2}')
        Traceback (most recent call last):
        hashring.protocol.strict_json.Malformed: names the key 'v' twice
    """
    try:
        # UTF-8 alone: the parser itself would guess an encoding, and let surrogates through.
        text = bytes(data).decode()
        value = _decoder.decode(text)
    except RecursionError:
        raise Malformed(f"has more than {MAX_DEPTH} levels") from None
    except Malformed:
        raise
    except ValueError as error:
        raise Malformed(f"is not JSON: {type(error).__name__}") from error
    check_value(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        (key, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise Malformed(f"names the key {key!r:.60} twice")
    return made


def _integer(text: str) -> int:
    if len(text) > MAX_INTEGER_DIGITS:
        raise Malformed(f"has an integer of {len(text)} digits; {MAX_INTEGER_DIGITS} are the most")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise Malformed(f"has the number {text:.20}, which is out of range")
    return value


def _constant(text: str) -> Any:
    raise Malformed(f"has {text}, which is not valid JSON")


_decoder = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant
)


def check_value(value: Any) -> None:
    """Refuse what is not JSON value that every reader can take.

    Raises:
        Malformed: saying what it is: another type, a key that is not a text, a number that is not
            finite or has too many digits, text that no UTF-8 can carry, too many levels.

    Example:
        >>> check_value({"host": ["web1", 2.5, None]})
        >>> check_value({1: "one"})
        Traceback (most recent call last):
        hashring.protocol.strict_json.Malformed: has a key that is not a text: 1
    """
    seen = 0
    # A stack of our own: the depth of a stranger's value must not become ours.
    rest: list[tuple[Any, int]] = [(value, 0)]
    while rest:
        found, depth = rest.pop()
        seen += 1
        if seen > _MAX_VALUES:
            raise Malformed(f"has more than {_MAX_VALUES} values")
        if isinstance(found, Mapping):
            inner: Sequence[Any] = list(found.values())
            for key in found:
                if not isinstance(key, str):
                    raise Malformed(f"has a key that is not a text: {key!r:.60}")
                _check_text(key)
        elif isinstance(found, list | tuple):
            inner = found
        else:
            _check_scalar(found)
            continue
        if depth == MAX_DEPTH:
            raise Malformed(f"has more than {MAX_DEPTH} levels")
        rest.extend((item, depth + 1) for item in inner)


def _check_scalar(value: Any) -> None:
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, int):
        if abs(value) >= 10**MAX_INTEGER_DIGITS:
            raise Malformed(f"has an integer of more than {MAX_INTEGER_DIGITS} digits")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise Malformed(f"has the number {value}, which is not valid JSON")
    else:
        raise Malformed(f"has a {type(value).__name__}, which is not valid JSON")


def _check_text(text: str) -> None:
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Malformed(f"has half of a surrogate pair: {text!r:.60}") from None


def check_size(meta: Mapping[str, Any]) -> None:
    """Refuse what is larger than a member may publish.

    Args:
        meta: checked by :func:`check_value`.

    Raises:
        Malformed: with the size, and what is allowed.
    """
    size = len(dumped(meta))
    if size > MAX_META:
        raise Malformed(f"has a meta of {size} bytes; {MAX_META} is the most")


def dumped(value: Mapping[str, Any]) -> bytes:
    """Return a checked value as it is published: keys in order, ASCII, no spaces."""
    return json.dumps(
        {**value}, separators=(",", ":"), sort_keys=True, allow_nan=False, default=dict
    ).encode()
