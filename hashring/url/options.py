"""The typed options behind a URL's ``?``: what they are, and the one reader of them.

Knows no option's meaning: a store's driver and a sink's publisher each declare their own.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Iterable
from typing import Any

from hashring.errors import BadURL
from hashring.url.masking import HIDDEN, bears_secret, looks_secret, masked_option

__all__ = [
    "Option",
    "boolean",
    "count",
    "flag",
    "fraction",
    "positive",
    "read_options",
    "seconds",
]


@dataclasses.dataclass(frozen=True)
class Option:
    """One typed option of a URL, a store's or a sink's.

    Attributes:
        name: as it is spelled in the URL.
        convert: from the URL's text to a value; raises ``ValueError`` for what it refuses.
        default: the value where the URL does not name the option.
        help: one line for messages, documentation and ``hashring drivers``.
        secret: the value is masked wherever the URL is shown.
    """

    name: str
    convert: Callable[[str], Any]
    default: Any
    help: str
    secret: bool = False


def read_options(
    given: Iterable[tuple[str, str]],
    options: Iterable[Option],
    where: str,
    secrets: Collection[str] = (),
) -> dict[str, Any]:
    """Return every known option, typed, by its name: as it is given, else its default.

    Args:
        given: names and texts as the URL has them, percent-decoded.
        options: those that are known.
        where: the URL as a message may show it.
        secrets: names of further options whose values are never shown.

    Raises:
        BadURL: one is unknown; the message lists those there are. Or one has a value that it
            cannot have; the message shows it, unless it may be a secret, and says what is right.

    Example:
        >>> known = (Option("timeout", seconds, 5.0, "seconds to wait for an answer"),)
        >>> read_options([("timeout", "2")], known, "x://h"), read_options([], known, "x://h")
        ({'timeout': 2.0}, {'timeout': 5.0})
        >>> read_options([("timeout", "soon")], known, "x://h?timeout=soon")
        Traceback (most recent call last):
        hashring.errors.BadURL: x://h?timeout=soon: the option 'timeout' cannot be 'soon': not a \
number; it is: seconds to wait for an answer
    """
    known = {option.name: option for option in options}
    found = {name: option.default for name, option in known.items()}
    for name, text in given:
        if name not in known:
            # A word that stands alone may be a token.
            is_token = not text.strip("=") and masked_option(name) == HIDDEN
            named = HIDDEN if is_token else repr(name)
            names = ", ".join(sorted(known)) or "it has none"
            raise BadURL(f"{where}: unknown option {named}; known: {names}")
        option = known[name]
        try:
            found[name] = option.convert(text)
        except ValueError as error:
            hides = option.secret or name in secrets or looks_secret(name) or bears_secret(text)
            value, why = (HIDDEN, "") if hides else (repr(text), f" {error};")
            raise BadURL(
                f"{where}: the option {name!r} cannot be {value}:{why} it is: {option.help}"
            ) from None
    return found


def boolean(text: str) -> bool:
    """Convert a URL option to a boolean: ``1/0``, ``true/false``, ``yes/no``, ``on/off``.

    >>> boolean("yes"), boolean("off")
    (True, False)
    """
    lowered = text.lower()
    if lowered in {"1", "true", "yes", "on"}:
        return True
    if lowered in {"0", "false", "no", "off"}:
        return False
    raise ValueError("not a boolean: use true or false")


def flag(text: str) -> bool:
    """Convert an option that may stand alone, as ``json`` in ``?json``, to a boolean.

    >>> flag(""), flag("no")
    (True, False)
    """
    return boolean(text) if text else True


def seconds(text: str) -> float:
    """Convert an option to a positive number of seconds.

    >>> seconds("2.5")
    2.5
    """
    value = _number(text)
    if value <= 0:
        raise ValueError("must be more than 0 seconds")
    return value


def fraction(text: str) -> float:
    """Convert an option to a number from 0 to 1."""
    value = _number(text)
    if not 0 <= value <= 1:
        raise ValueError("must be from 0 to 1")
    return value


def count(text: str) -> int:
    """Convert an option to a whole number that is not negative."""
    try:
        value = int(text)
    except ValueError:
        raise ValueError("not a whole number") from None
    if value < 0:
        raise ValueError("must not be negative")
    return value


def positive(text: str) -> int:
    """Convert an option to a whole number of at least 1."""
    value = count(text)
    if value == 0:
        raise ValueError("must be at least 1")
    return value


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError("not a number") from None
    if not math.isfinite(value):
        raise ValueError("not a finite number")
    return value
