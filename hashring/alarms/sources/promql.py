"""PromQL narrowed to one project: a label is demanded of every selector of a query.

It reads as much of the language as tells selectors from all else: which words are metrics and which
are functions, operators and labels. What it does not understand it refuses: a selector that was
overlooked would show one project another's series.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

from hashring.alarms.errors import BadQuery

__all__ = ["narrowed"]

_TOKEN = re.compile(
    r"""
    (?P<space>(?:\s+|\#[^\n]*)+)
  | (?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`[^`]*`)
  | (?P<number>0[xX][0-9a-fA-F_]+|(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9_]+)[eE][+-]?[0-9]+
              |(?:[0-9]|\.[0-9])[0-9A-Za-z_.]*)
  | (?P<range>\[[^\]\[\"'`{}#]*\])
  | (?P<word>[a-zA-Z_:][a-zA-Z0-9_:]*)
  | (?P<sign>=~|!~|==|!=|<=|>=|[-+*/%^<>=(){},@])
    """,
    re.VERBOSE,
)

_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")

_BINARY = frozenset({"+", "-", "*", "/", "%", "^", "==", "!=", "<", "<=", ">", ">="})
_SET_OPERATORS = frozenset({"and", "or", "unless", "atan2"})
_GROUPING = frozenset({"by", "without"})
_MATCHING = frozenset({"on", "ignoring", "group_left", "group_right"})
_CONSTANTS = frozenset({"inf", "nan"})


class _Token(NamedTuple):
    kind: str
    text: str

    @property
    def keyword(self) -> str:
        return self.text.lower() if self.kind == "word" else ""


def narrowed(query: str, label: str, project: str) -> str:
    """Return a query that gives series of one project alone.

    Args:
        query: PromQL.
        label: its name.
        project: the value that it must have.

    Raises:
        BadQuery: the query is not understood, or the label is no name of one.

    Example:
        >>> narrowed('sum by (job) (rate(http_requests{code="500"}[5m])) > 3', "project", "p1")
        'sum by (job) (rate(http_requests{project="p1", code="500"}[5m])) > 3'
        >>> narrowed("up", "project", "p1")
        'up{project="p1"}'
    """
    if not _LABEL.fullmatch(label):
        raise BadQuery("prometheus_project_label_name", label, "must be the name of a label")
    return _Reader(query, f"{label}={json.dumps(project)}").read()


class _Reader:
    """Reads one query, once from left to right, and writes it again."""

    def __init__(self, query: str, matcher: str) -> None:
        self._query = query
        self._matcher = matcher
        self._tokens = list(_tokens(query))
        self._at = 0
        self._written: list[str] = []

    def read(self) -> str:
        depth = 0
        wants_operand, is_after_operator = True, False
        while (token := self._next()) is not None:
            if wants_operand:
                if is_after_operator and self._is_modifier(token):
                    continue
                is_after_operator = False
                if token.text == "(":
                    depth += 1
                elif token.text == ")" and self._before == "(":  # a call without arguments
                    depth -= 1
                    wants_operand = False
                elif token.text not in ("+", "-"):
                    wants_operand = self._operand(token)
            elif token.text == ")":
                depth -= 1
            elif token.text == ",":
                wants_operand = True
            elif token.text in _BINARY or token.keyword in _SET_OPERATORS:
                wants_operand = is_after_operator = True
            else:
                self._after_operand(token)
            if depth < 0:
                raise self._unclear(token)
            self._before = token.text
        if wants_operand or depth:
            raise self._unclear(None)
        return "".join(self._written)

    # ---- what an expression is made of

    def _operand(self, token: _Token) -> bool:
        """Read an operand that begins with a token; return whether one is still wanted."""
        if token.kind in ("number", "text"):
            return False
        if token.text == "{":
            self._matchers()
            return False
        if token.kind != "word":
            raise self._unclear(token)
        following = self._peek()
        if following == "(" and token.keyword == "info":  # it reads other metrics by itself
            raise self._unclear(token)
        if following == "(":
            return True  # a function's or an aggregation's arguments
        if following.lower() in _GROUPING and self._peek(1) == "(":
            self._next()
            self._labels()
            if self._peek() != "(":
                raise self._unclear(token)
            return True
        if token.keyword in _CONSTANTS:
            return False
        if following == "{":
            self._next()
            self._matchers()
        else:
            self._written.append(f"{{{self._matcher}}}")
        return False

    def _after_operand(self, token: _Token) -> None:
        """Read what may follow an operand, which begins with a token."""
        if token.kind == "range":
            return
        if token.keyword in _GROUPING and self._before == ")":
            self._labels()
        elif token.keyword == "offset" or token.text == "@":
            if self._peek() in ("-", "+"):
                self._next()
            found = self._next()
            if token.text == "@" and found is not None and found.keyword in ("start", "end"):
                self._expect("(")
                self._expect(")")
            elif found is None or found.kind != "number":
                raise self._unclear(found)
        else:
            raise self._unclear(token)

    def _is_modifier(self, token: _Token) -> bool:
        """Read what may stand between an operator and its right side."""
        if token.keyword == "bool":
            return True
        if token.keyword not in _MATCHING:
            return False
        if self._peek() == "(":
            self._labels()
        elif token.keyword in ("on", "ignoring"):
            raise self._unclear(token)
        return True

    def _labels(self) -> None:
        self._expect("(")
        while (token := self._next()) is not None and token.text != ")":
            if token.kind not in ("word", "text") and token.text != ",":
                raise self._unclear(token)
        if token is None:
            raise self._unclear(None)

    def _matchers(self) -> None:
        """Read a selector's matchers, after its brace, and write ours before them."""
        is_empty = self._peek() == "}"
        self._written.append(self._matcher if is_empty else f"{self._matcher}, ")
        while (token := self._next()) is not None and token.text != "}":
            if token.kind not in ("word", "text"):
                raise self._unclear(token)
            if token.kind == "word" or self._peek() in ("=", "!=", "=~", "!~"):
                sign, value = self._next(), self._next()
                if sign is None or sign.text not in ("=", "!=", "=~", "!~"):
                    raise self._unclear(sign)
                if value is None or value.kind != "text":
                    raise self._unclear(value)
            if self._peek() == ",":
                self._next()
            elif self._peek() != "}":
                raise self._unclear(self._next())
        if token is None:
            raise self._unclear(None)

    # ---- tokens

    _before = ""

    def _next(self) -> _Token | None:
        """Return the next token that counts, written down; ``None`` at the end."""
        while self._at < len(self._tokens):
            token = self._tokens[self._at]
            self._at += 1
            self._written.append(token.text)
            if token.kind != "space":
                return token
        return None

    def _peek(self, ahead: int = 0) -> str:
        for token in self._tokens[self._at :]:
            if token.kind != "space":
                if ahead == 0:
                    return token.text
                ahead -= 1
        return ""

    def _expect(self, text: str) -> None:
        token = self._next()
        if token is None or token.text != text:
            raise self._unclear(token)

    def _unclear(self, token: _Token | None) -> BadQuery:
        where = "its end" if token is None else repr(token.text)
        return BadQuery(
            "query", self._query[:200], f"it cannot be narrowed to a project: {where} is unexpected"
        )


def _tokens(query: str) -> Iterator[_Token]:
    at = 0
    while at < len(query):
        found = _TOKEN.match(query, at)
        if found is None or found.lastgroup is None:
            raise BadQuery(
                "query",
                query[:200],
                f"it cannot be narrowed to a project: {query[at]!r} is unexpected",
            )
        yield _Token(found.lastgroup, found.group())
        at = found.end()
