"""Ceilometer's ``group_id_coordination_expression``, of which one meaning is understood.

Ceilometer evaluates the expression as Python, and splits the work of a source among the agents for
which it gives the same text. What it is there for is this host's name: then each host's agents
split it among themselves, which here is ``local: true``. Nothing is evaluated here.
"""

from __future__ import annotations

import ast

__all__ = ["names_this_host"]

# What is this host's name where Ceilometer evaluates it.
_SPELLINGS = (
    "self.conf.host",
    "socket.gethostname()",
    "socket.getfqdn()",
    "socket.getfqdn(socket.gethostname())",
    "os.uname().nodename",
    "os.uname()[1]",
    "str(self.conf.host)",
)


def names_this_host(expression: str) -> bool:
    """Return whether an expression is one of the spellings of this host's name.

    Example:
        >>> names_this_host("socket.gethostname( )"), names_this_host("'east'")
        (True, False)
    """
    return _tree(expression) in {_tree(spelling) for spelling in _SPELLINGS}


def _tree(expression: str) -> str:
    try:
        return ast.dump(ast.parse(expression.strip(), mode="eval"))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
