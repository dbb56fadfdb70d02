"""`Token`: what whoever wants to change something by the page has to know."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Self

from hashring.errors import BadArgument

__all__ = ["SHORTEST", "Token", "checked"]

SHORTEST = 16
"""Characters of a token, at least: nobody is kept from guessing but by its length."""

_LONGEST = 4096
"""Bytes of a file with a token, at most: a longer one is another file."""


def checked(text: str) -> str:
    """Return a token without the space around it.

    Raises:
        BadArgument: it is too short, or cannot stand in a header; it is not shown.

    >>> checked(" correct-horse-battery ")
    'correct-horse-battery'
    >>> checked("1234")
    Traceback (most recent call last):
    hashring.errors.BadArgument: a token must have 16 characters at least, not 4
    """
    token = text.strip()
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise BadArgument("a token must be of printable ASCII characters, without spaces")
    if len(token) < SHORTEST:
        raise BadArgument(f"a token must have {SHORTEST} characters at least, not {len(token)}")
    return token


class Token:
    """A token, or a file that has one. The file is read anew each time: it can be replaced.

    Args:
        text: the token.
        file: or where it stands, alone.

    Raises:
        BadArgument: there are both or neither, the file cannot be read, or what is there is no
            token.

    Example:
        >>> token = Token("correct-horse-battery")
        >>> token.is_right("correct-horse-battery"), token.is_right("wrong"), token
        (True, False, <Token>)
    """

    def __init__(self, text: str | None = None, *, file: Path | None = None) -> None:
        if (text is None) == (file is None):
            raise BadArgument("give a token or a file that has one, and not both")
        self._text = None if text is None else checked(text)
        self._file = file
        self._wanted()

    @classmethod
    def of(cls, text: str, file: Path | None) -> Self | None:
        """Return what a configuration names; ``None`` where it names neither.

        Args:
            text: the token; may be empty.
            file: or where it stands.

        Raises:
            BadArgument: as for the class.
        """
        return None if not text and file is None else cls(text or None, file=file)

    def is_right(self, given: str) -> bool:
        """Return whether somebody knows the token. It takes as long whatever is wrong.

        Raises:
            BadArgument: the file cannot be read any more, or has no token.
        """
        # Digests: they are of one length, whatever was given.
        return hmac.compare_digest(_digest(given), _digest(self._wanted()))

    def _wanted(self) -> str:
        if self._text is not None:
            return self._text
        assert self._file is not None
        try:
            with self._file.open(encoding="ascii") as file:
                text = file.read(_LONGEST)
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or "it is no text of ASCII characters"
            raise BadArgument(f"the token's file {self._file} cannot be read: {why}") from None
        try:
            return checked(text)
        except BadArgument as error:
            raise BadArgument(f"the token's file {self._file}: {error}") from None

    def __repr__(self) -> str:
        return "<Token>"


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
