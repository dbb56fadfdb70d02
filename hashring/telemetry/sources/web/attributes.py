"""Attribute: where a value lies in a JSON document, and small operations on it; no code is run.

Ceilometer's dynamic pollsters name values as ``flavor.vcpus`` and change them by Python
expressions: ``user | value.split('$')[0]``. Ceilometer hands those to ``eval``. Here they are read
into a syntax tree, of which only what is listed below is accepted, and the tree is walked: there
is no name, attribute or function that could reach anything but the document. This room knows
neither files nor meters.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hashring.errors import HashringError
from hashring.telemetry.errors import BadAttribute, Missing, Unusable

__all__ = ["Attribute", "BadAttribute", "Missing", "Unusable"]

_MAX_LENGTH = 1000
"""Characters of an attribute: enough for any that a person writes, and it bounds the recursion."""


class Attribute:
    """A path into a JSON document, and operations on what lies there.

    The path is a list of keys, separated by dots; a number is a place in a list; ``.`` alone is
    the document itself. Operations follow after ``|``, each an expression that uses ``value``:
    literals, indices and slices, ``and or not in is``, comparisons, ``x if y else z``, arithmetic
    on numbers, ``+`` on texts and lists, ``lambda``, the functions of :data:`FUNCTIONS` and the
    methods of :data:`METHODS`.

    Args:
        text: the path, with or without operations.

    Raises:
        BadAttribute: it is not legal; the message says what is not.

    Example:
        >>> Attribute("flavor.ram").of({"flavor": {"ram": 512}})
        512
        >>> Attribute("user | value.split('$')[0]").of({"user": "p1$p1"})
        'p1'
        >>> links = {"links": [{"rel": "prev"}, {"rel": "next", "href": "/2"}]}
        >>> Attribute(
        ...     "links | filter(lambda v: v.get('rel') == 'next', value) | value[0]['href']"
        ... ).of(links)
        '/2'
        >>> Attribute("id | open('/etc/passwd')")
        Traceback (most recent call last):
        ...
        hashring.telemetry.errors.BadAttribute: the operation ...
    """

    def __init__(self, text: str) -> None:
        if not isinstance(text, str) or not text.strip():
            raise BadAttribute(f"an attribute is a text such as 'flavor.vcpus', not {text!r}")
        if len(text) > _MAX_LENGTH:
            raise BadAttribute(f"an attribute of {len(text)} characters; at most {_MAX_LENGTH}")
        path, *operations = _split(text)
        self.text = text
        self.path: tuple[str, ...] = () if path == "." else tuple(path.split("."))
        if not all(self.path):
            raise BadAttribute(f"the path {path!r} has an empty key; write 'a.b', or '.' alone")
        self._operations = tuple(_parsed(operation) for operation in operations)

    def __repr__(self) -> str:
        return f"Attribute({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Attribute) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def of(self, document: Any) -> Any:
        """Return the attribute's value in a document of JSON types.

        Raises:
            Missing: the document has no such attribute.
            Unusable: an operation cannot be done on it.
        """
        value = document
        for key in self.path:
            value = _step(value, key, self.text)
        for text, tree in self._operations:
            try:
                value = _value(tree, {"value": value})
            except (KeyError, IndexError) as error:
                raise Missing(f"{text!r} found no {error}") from None
            except HashringError:
                raise
            except (ArithmeticError, AttributeError, TypeError, ValueError) as error:
                raise Unusable(f"{text!r} failed: {type(error).__name__}: {error}") from None
            except RecursionError:
                raise Unusable(f"{text!r} failed: it calls itself without end") from None
        return value


def _step(value: Any, key: str, text: str) -> Any:
    if isinstance(value, Mapping):
        if key in value:
            return value[key]
    elif isinstance(value, list) and key.isascii() and key.isdigit() and int(key) < len(value):
        return value[int(key)]
    raise Missing(f"there is no {key!r} (of {text!r})")


def _split(text: str) -> list[str]:
    """Cut at each ``|`` that stands in no quotes."""
    parts, quote, start = [], "", 0
    for place, character in enumerate(text):
        if quote:
            if character == quote and text[place - 1] != "\\":
                quote = ""
        elif character in "'\"":
            quote = character
        elif character == "|":
            parts.append(text[start:place].strip())
            start = place + 1
    return [*parts, text[start:].strip()]


def _function_over(values: Callable[..., Any]) -> Callable[..., Any]:
    # Lists, not iterators: each operation hands on a value that can be looked at twice.
    return lambda *arguments: list(values(*arguments))


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "abs": abs,
    "all": all,
    "any": any,
    "bool": bool,
    "filter": _function_over(filter),
    "float": float,
    "int": int,
    "len": len,
    "list": list,
    "map": _function_over(map),
    "max": max,
    "min": min,
    "round": round,
    "sorted": lambda values: sorted(values),
    "str": str,
    "sum": lambda values: sum(values),
}
"""The functions that an operation may call."""

METHODS: Mapping[type, frozenset[str]] = {
    str: frozenset(
        (
            *("count", "endswith", "find", "isdigit", "join", "lower", "lstrip", "removeprefix"),
            *("removesuffix", "replace", "rsplit", "rstrip", "split", "splitlines", "startswith"),
            *("strip", "title", "upper"),
        )
    ),
    dict: frozenset(("get", "items", "keys", "values")),
    list: frozenset(("count", "index")),
}
"""The methods that an operation may call, by the type of what it calls them on."""

_ALL_METHODS = frozenset().union(*METHODS.values())

_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_UNARY: Mapping[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
}


def _parsed(operation: str) -> tuple[str, ast.expr]:
    try:
        tree = ast.parse(operation, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise BadAttribute(f"the operation {operation!r} is not an expression") from None
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    if "value" not in names:
        raise BadAttribute(f"the operation {operation!r} must use the variable 'value'")
    _check(tree, frozenset({"value"}), operation)
    return operation, tree


def _check(node: ast.AST, names: frozenset[str], operation: str) -> None:
    """Accept a tree of which every part is known to be harmless; refuse any other."""
    inner: Sequence[ast.AST | None]
    match node:
        case ast.Constant(value=str() | int() | float() | bool() | None):
            inner = ()
        case ast.Name(id=name) if name in names:
            inner = ()
        case ast.Subscript(value=of, slice=place):
            inner = (of, place)
        case ast.Slice(lower=lower, upper=upper, step=step):
            inner = (lower, upper, step)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            inner = (test, body, orelse)
        case ast.BoolOp(values=values):
            inner = values
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            inner = (operand,)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            inner = (left, right)
        case ast.Compare(left=left, comparators=comparators):
            inner = (left, *comparators)
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            inner = elements
        case ast.Dict(keys=keys, values=values) if None not in keys:
            inner = (*keys, *values)
        case ast.Lambda(args=arguments, body=body) if not (
            arguments.kwonlyargs or arguments.vararg or arguments.kwarg or arguments.defaults
        ):
            names |= {argument.arg for argument in arguments.args}
            inner = (body,)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in FUNCTIONS:
            inner = args
        case ast.Call(func=ast.Attribute(value=of, attr=name), args=args, keywords=[]) if (
            name in _ALL_METHODS
        ):
            inner = (of, *args)
        case _:
            raise BadAttribute(
                f"the operation {operation!r} uses {ast.unparse(node)!r}, which is not supported; "
                f"functions: {', '.join(FUNCTIONS)}; methods: {', '.join(sorted(_ALL_METHODS))}"
            )
    for part in inner:
        if part is not None:
            _check(part, names, operation)


def _value(node: ast.AST, names: Mapping[str, Any]) -> Any:
    """Return the value of a tree that :func:`_check` has accepted."""
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return names[name]
        case ast.Subscript(value=of, slice=place):
            return _value(of, names)[_value(place, names)]
        case ast.Slice(lower=lower, upper=upper, step=step):
            ends = (lower, upper, step)
            return slice(*(None if end is None else _value(end, names) for end in ends))
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return _value(body if _value(test, names) else orelse, names)
        case ast.BoolOp(op=op, values=values):
            return _chosen(isinstance(op, ast.And), values, names)
        case ast.UnaryOp(op=unary, operand=operand):
            return _UNARY[type(unary)](_value(operand, names))
        case ast.BinOp(left=left, op=binary, right=right):
            return _calculated(binary, _value(left, names), _value(right, names))
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            before = _value(left, names)
            for compare, comparator in zip(ops, comparators, strict=True):
                after = _value(comparator, names)
                if not _COMPARE[type(compare)](before, after):
                    return False
                before = after
            return True
        case ast.List(elts=elements):
            return [_value(element, names) for element in elements]
        case ast.Tuple(elts=elements):
            return tuple(_value(element, names) for element in elements)
        case ast.Dict(keys=keys, values=values):
            pairs = zip(keys, values, strict=True)
            return {_value(key, names): _value(value, names) for key, value in pairs if key}
        case ast.Lambda(args=arguments, body=body):
            parameters = [argument.arg for argument in arguments.args]
            return lambda *given: _value(
                body, {**names, **dict(zip(parameters, given, strict=True))}
            )
        case ast.Call(func=ast.Name(id=name), args=args):
            return FUNCTIONS[name](*(_value(argument, names) for argument in args))
        case ast.Call(func=ast.Attribute(value=of, attr=name), args=args):
            return _method(_value(of, names), name)(*(_value(argument, names) for argument in args))
    raise AssertionError(f"{ast.dump(node)} was accepted but is not known")  # pragma: no cover


def _chosen(is_and: bool, values: Sequence[ast.expr], names: Mapping[str, Any]) -> Any:
    found = None
    for value in values:
        found = _value(value, names)
        if bool(found) is not is_and:
            break
    return found


def _calculated(sign: ast.operator, left: Any, right: Any) -> Any:
    numbers = isinstance(left, int | float) and isinstance(right, int | float)
    joins = isinstance(sign, ast.Add) and isinstance(left, str | list)
    if not (numbers or joins):
        # "x" * 10**9 and "%999999999d" % 1 are small expressions with large values.
        raise TypeError(f"no arithmetic on {type(left).__name__} and {type(right).__name__}")
    return _BINARY[type(sign)](left, right)


def _method(of: Any, name: str) -> Callable[..., Any]:
    for type_, methods in METHODS.items():
        if isinstance(of, type_) and name in methods:
            method: Callable[..., Any] = getattr(of, name)
            return method
    raise TypeError(f"{type(of).__name__} has no {name}()")
