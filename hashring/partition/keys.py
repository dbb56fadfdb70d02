"""What a key is where it is no ``str``: the error that says how to name it."""

from __future__ import annotations

from hashring.errors import BadKey

__all__ = ["explained"]

_HINT = (
    "; for other objects say what gives their key, the same in every process: key=str for "
    "numbers, UUIDs and paths, or such as key=lambda found: found.id"
)


def explained(error: BadKey) -> BadKey:
    """Return the error for a key of the wrong type, with what to do about it.

    >>> str(explained(BadKey("the key is of type 'int': keys are str or bytes")))[:62]
    "the key is of type 'int': keys are str or bytes; for other obj"
    """
    text = str(error)
    return BadKey(text + _HINT) if " of type " in text else error
