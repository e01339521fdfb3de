"""Answers: expressions over the measures' answers, computed after the merge, such as `returns / lines`.

Arithmetic, comparisons, `and`, `or`, `not`, `x if c else y`, fields of a structured answer (`amount.p95`) and a few
functions. Null in gives null out, and so does a division by zero; a quotient
is the nearest double. No Spark is needed.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from typing import Any

from tideline.errors import DefinitionError

_WIDE = Context(prec=200, Emax=999, Emin=-999)
LARGEST = 4096  # bits of a whole number
DEEPEST = 100  # operations inside each other


def _power(left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() * right > LARGEST:
        raise OverflowError(f"{left} ** {right}")
    return left**right


_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "round": lambda value, digits=0: round(value, digits if abs(digits) < 400 else None),
    "sqrt": math.sqrt,
    "ln": math.log,
    "exp": math.exp,
    "floor": math.floor,
    "ceil": math.ceil,
    "least": min,
    "greatest": max,
    "len": len,
}


class Answer:
    """A checked expression; `names` are the measures that it reads."""

    def __init__(self, text: str, known: Iterable[str]) -> None:
        self.text = text
        try:
            self._tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise DefinitionError(
                "BAD_ANSWER", expression=text[:1000], expected="arithmetic over measures, as in returns / lines"
            ) from None
        if _depth(self._tree) > DEEPEST:
            raise DefinitionError("BAD_ANSWER", expression=text[:100], expected=f"at most {DEEPEST} nested operations")
        known = set(known)
        self.names = set(_names(self._tree))
        for node in ast.walk(self._tree):
            if not isinstance(node, _ALLOWED) or not _is_plain(node):
                raise DefinitionError(
                    "BAD_ANSWER", expression=text, found=ast.unparse(node), expected="arithmetic over measures"
                )
        if self.names - known:
            raise DefinitionError(
                "UNKNOWN_MEASURE", expression=text, measure=min(self.names - known), known=sorted(known)
            )

    def __call__(self, values: Mapping[str, Any]) -> Any:
        """The answer for these measures' answers; None where it has no value."""
        try:
            with localcontext(_WIDE):
                found = _evaluate(self._tree, values)
        except (ArithmeticError, ValueError, TypeError):
            return None
        if isinstance(found, complex) or (isinstance(found, int) and found.bit_length() > LARGEST):
            return None
        return found


_ALLOWED = (
    ast.Expression,
    ast.BinOp,
    ast.UnaryOp,
    ast.Compare,
    ast.BoolOp,
    ast.IfExp,
    ast.Call,
    ast.Name,
    ast.Attribute,
    ast.Constant,
    ast.Load,
    ast.operator,
    ast.unaryop,
    ast.cmpop,
    ast.boolop,
)


def _depth(tree: ast.AST) -> int:
    level, depth = [tree], 0
    while level:
        level, depth = [child for node in level for child in ast.iter_child_nodes(node)], depth + 1
    return depth


def _names(node: ast.AST) -> Iterator[str]:
    """The measures that an expression reads: every name but those of the functions it calls."""
    if isinstance(node, ast.Name):
        yield node.id
    for child in ast.iter_child_nodes(node):
        if not (isinstance(node, ast.Call) and child is node.func):
            yield from _names(child)


def _is_plain(node: ast.AST) -> bool:
    """Whether an operator or function is a known one, its arguments go by position, and a constant is a value."""
    if isinstance(node, ast.Constant):
        return node.value is None or isinstance(node.value, (bool, int, float, str))
    if isinstance(node, ast.BinOp):
        return type(node.op) in _BINARY
    if isinstance(node, ast.UnaryOp):
        return not isinstance(node.op, ast.Invert)
    if isinstance(node, ast.Call):
        named = isinstance(node.func, ast.Name) and node.func.id in {*_FUNCTIONS, "coalesce"}
        return named and not node.keywords and bool(node.args)
    return not isinstance(node, ast.Compare) or (len(node.ops) == 1 and type(node.ops[0]) in _COMPARE)


def _evaluate(node: ast.AST, values: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return values[name]
        case ast.Attribute(value=inner, attr=field):
            whole = _evaluate(inner, values)
            return whole.get(field) if isinstance(whole, Mapping) else None
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return _evaluate(body if _evaluate(test, values) else orelse, values)
        case ast.BoolOp(op=op, values=parts):
            found = [_evaluate(part, values) for part in parts]
            decisive = isinstance(op, ast.Or)
            if any(value is not None and bool(value) == decisive for value in found):
                return decisive
            return None if None in found else not decisive
        case ast.UnaryOp(op=op, operand=operand):
            value = _evaluate(operand, values)
            return (
                None
                if value is None
                else (not value)
                if isinstance(op, ast.Not)
                else -value
                if isinstance(op, ast.USub)
                else value
            )
        case ast.BinOp(left=left, op=op, right=right):
            return _both(_BINARY[type(op)], _evaluate(left, values), _evaluate(right, values))
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARE:
            return _both(_COMPARE[type(op)], _evaluate(left, values), _evaluate(right, values))
        case ast.Call(func=ast.Name(id="coalesce"), args=arguments, keywords=[]):
            found = [_evaluate(argument, values) for argument in arguments]
            return next((value for value in found if value is not None), None)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            found = [_evaluate(argument, values) for argument in arguments]
            return None if None in found else _FUNCTIONS[name](*found)
    raise ValueError(ast.dump(node))


def _both(apply: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    if left is None or right is None:
        return None
    if isinstance(left, float) and isinstance(right, Decimal):
        right = float(right)
    if isinstance(right, float) and isinstance(left, Decimal):
        left = float(left)
    if apply is operator.truediv and not isinstance(left, float) and not isinstance(right, float):
        return float(Fraction(left) / Fraction(right))
    if isinstance(left, str) and apply is not operator.add and apply not in _COMPARE.values():
        raise TypeError("no arithmetic on text")
    return apply(left, right)
