"""Compiling expressions for Arrow: whatever a catalog may hold gives a term, or is left to Spark."""

from __future__ import annotations

from itertools import product

import pytest

from tideline.arrow_expressions import Compiler
from tideline.arrow_terms import NotPlain
from tideline.expressions import ROW_FUNCTIONS
from tideline.types import BIGINT, DOUBLE, parse_schema

COLUMNS = parse_schema("n int, x double, word string, at timestamp, price decimal(10,2), flag boolean")


@pytest.mark.parametrize("function", sorted(ROW_FUNCTIONS))
def test_every_function_with_any_arguments_is_compiled_or_left_to_spark(function: str) -> None:
    compiler, names = Compiler(COLUMNS), ("n", "x", "word", "at", "null", "3")
    for count in range(4):
        for arguments in product(names, repeat=count):
            try:
                compiler.term(f"{function}({', '.join(arguments)})")
            except NotPlain:
                continue


@pytest.mark.parametrize("sql", ["ln(x)", "ln(x) / 2D", "abs(ln(x))", "if(flag, ln(x), x)", "cast(ln(x) as bigint)"])
def test_a_logarithm_is_nothing_until_it_is_rounded(sql: str) -> None:
    for kind in (DOUBLE, BIGINT):
        with pytest.raises(NotPlain):
            Compiler(COLUMNS).compile(sql, kind)
    assert Compiler(COLUMNS).compile("ceil(ln(x) / 2D)", BIGINT).kind == BIGINT
