"""Integer constant expressions: indices of attributes and values of enumerators."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["integer"]

_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.LShift: operator.lshift,
    ast.BitOr: operator.or_,
}
_OCTAL = re.compile(r"(?<![\w.])0+(?=\d)")
_SUFFIX = re.compile(r"\b(0[xX][0-9a-fA-F]+|\d+)[uUlL]*\b")


def integer(text: str, names: Mapping[str, int] | None = None) -> int | None:
    """The value of an expression of literals, names and + - * << |; None if it is anything else."""
    try:
        plain = _OCTAL.sub("0o", _SUFFIX.sub(r"\1", text.strip().replace("< <", "<<")))
        tree = ast.parse(plain, mode="eval")
        return _value(tree.body, names or {})
    except (SyntaxError, ValueError):
        return None


def _value(node: ast.expr, names: Mapping[str, int]) -> int:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.Name) and node.id in names:
        return names[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand, names)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.left, names), _value(node.right, names))
    raise ValueError("not a constant")
