"""URLs of actions: which a request may name, and what an answer shows of them.

What may be a secret is shown to nobody. A client that reads an alarm, changes a field and writes
the whole back sends what it was shown: then what is kept stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from hashring.alarms.api.answers import Refused
from hashring.alarms.errors import BadAlarm
from hashring.url import masked

__all__ = ["ACTIONS", "accepted", "hidden"]

ACTIONS = ("ok_actions", "alarm_actions", "insufficient_data_actions")
"""The fields of an alarm that have them."""

_OF_OPERATORS = frozenset({"log", "test"})
"""Schemes that write on the evaluator's own host: for administrators."""


def hidden(urls: Any) -> Any:
    """Return the URLs of a field without secrets.

    >>> hidden(["https://u:p@host/in?token=x", "trust+http://0f3a:delete@host/", "log://"])
    ['https://u:***@host/in?token=***', 'trust+http://host/', 'log://']
    """
    if urls is None:
        return None
    if not isinstance(urls, list):
        return ["***"]  # a row that somebody else has written, and that is no list
    return [_hidden(url) if isinstance(url, str) else url for url in urls]


def _hidden(url: str) -> str:
    if url.startswith("trust+"):  # its user is the id of a trust in Keystone
        scheme, _, rest = url.partition("://")
        authority, slash, path = rest.partition("/")
        return masked(f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}")
    return masked(url)


def accepted(
    field: str,
    urls: Iterable[str],
    *,
    kept: Mapping[str, Any],
    is_admin: bool,
    most: int,
    check: Callable[[str], None],
) -> list[str]:
    """Return the URLs of a field, each once.

    Args:
        field: its name.
        urls: as the request has them.
        kept: the alarm as it is, for what was shown without its secrets; empty for a new one.
        is_admin: whether who asks is an administrator.
        most: how many there may be; 0 or less: any number.
        check: checks the URL of an action; raises BadAlarm.

    Raises:
        Refused: one of them is not allowed.
    """
    known = _by_what_is_shown(field, kept)
    found = list(dict.fromkeys(_restored(url, known) for url in urls))
    if 0 < most < len(found):
        raise Refused(f"{field} count exceeds maximum value {most}")
    before = {url for name in ACTIONS for url in kept.get(name) or ()}
    for url in found:
        if url not in before:  # what was allowed stays allowed: who may not make it may keep it
            _check(field, url, is_admin, check)
    return found


def _by_what_is_shown(field: str, kept: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the URLs that an alarm has by what is shown of them, the field's own ones first."""
    found: dict[str, list[str]] = {}
    for name in (field, *ACTIONS):
        for url in kept.get(name) or ():
            alike = found.setdefault(_hidden(url), [])
            if url not in alike:
                alike.append(url)
    return found


def _restored(url: str, known: Mapping[str, list[str]]) -> str:
    alike = known.get(url)
    if not alike:
        return url
    return alike.pop(0) if len(alike) > 1 else alike[0]


def _check(field: str, url: str, is_admin: bool, check: Callable[[str], None]) -> None:
    shown = _hidden(url)
    try:
        scheme = urlsplit(url).scheme.lower()
    except ValueError:
        raise Refused(f"Unable to parse action {shown}") from None
    if "***" in url:
        raise Refused(f"{field}: {url}: give the whole URL: what was hidden in it is not known")
    try:
        check(url)
    except BadAlarm as error:
        raise Refused(f"Unsupported action {error}") from None
    if scheme in _OF_OPERATORS and not is_admin:
        raise Refused(f"You are not authorized to create action: {shown}", 401)
