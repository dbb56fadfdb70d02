"""Answers of a ZooKeeper that nobody expects, in words for the operator."""

from __future__ import annotations

from typing import Any

from kazoo.exceptions import (
    BadVersionError,
    EphemeralOnLocalSessionError,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    SessionClosedRequireSaslError,
    UnimplementedError,
    ZookeeperError,
)

from hashring.driver import Driver
from hashring.errors import StoreUnusable

__all__ = ["refuse", "refuse_persistent", "refuse_short"]


def refuse(driver: Driver, root: str, answer: Any) -> None:
    """Raise what no caller expects to see as an answer; return for any other.

    Args:
        driver: for its URL.
        root: the node under which all groups are.
        answer: the server's.

    Raises:
        StoreUnusable: the servers will never do what they were asked.
    """
    if isinstance(answer, NoAuthError | SessionClosedRequireSaslError):
        # A user without a password may be a token.
        who = f"user {driver.url.user!r}" if driver.url.secret else "this user"
        raise StoreUnusable(
            f"{driver.url}: {who} may not do this under {root}: check the user, the "
            "password, and the ACL of that path"
        )
    if isinstance(answer, EphemeralOnLocalSessionError):
        raise StoreUnusable(
            f"{driver.url} gives local sessions only: set localSessionsUpgradingEnabled=true"
        )
    expected = NoNodeError | NodeExistsError | BadVersionError | UnimplementedError
    if isinstance(answer, ZookeeperError) and not isinstance(answer, expected):
        raise StoreUnusable(f"{driver.url}: the server refused: {type(answer).__name__} {answer}")


def refuse_persistent(driver: Driver, path: str, stat: Any) -> None:
    """Raise where a node in a member's place is of no session.

    Args:
        driver: for its URL.
        path: of the node.
        stat: of the node.

    Raises:
        StoreUnusable: it would stand for ever.
    """
    if stat.ephemeralOwner == 0:
        raise StoreUnusable(
            f"{driver.url}: {path} is a persistent node that is nobody's lease: delete it"
        )


def refuse_short(driver: Driver, granted: float) -> None:
    """Raise where a session is shorter than the lease.

    Args:
        driver: for its URL and its ttl.
        granted: the session's timeout in seconds, as the servers made it.

    Raises:
        StoreUnusable: the servers grant no longer one.
    """
    if granted < driver.ttl:
        raise StoreUnusable(
            f"{driver.url} grants no session longer than {granted:g} s, which is less than the "
            f"ttl of {driver.ttl:g} s: lower ttl, or raise maxSessionTimeout on the servers"
        )
