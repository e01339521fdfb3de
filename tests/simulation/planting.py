"""Puts other text in the place of a module's own, while it runs: by the code of the functions that differ."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any


@dataclass(frozen=True)
class Mutant:
    """`old` stands once in the module; `invariant` is its number in docs/protocol.md.

    `without` names mutants that are planted with it: rules that would keep its fault from showing. `seed` is one that
    finds it, where to look first.
    """

    name: str
    invariant: int
    module: str
    old: str
    new: str
    without: tuple[str, ...] = ()
    seed: int = 0


@contextmanager
def in_place(mutants: Iterable[Mutant]) -> Iterator[None]:
    """The mutants in the place of the modules' own code while it is open. LookupError where a text is not there."""
    edits: dict[str, list[Mutant]] = {}
    for one in mutants:
        edits.setdefault(one.module, []).append(one)
    changed = [pair for module, those in edits.items() for pair in _edited(module, those)]
    before = [(function, function.__code__) for function, _ in changed]
    for function, code in changed:
        function.__code__ = code
    try:
        yield
    finally:
        for function, code in before:
            function.__code__ = code


def _edited(name: str, mutants: list[Mutant]) -> list[tuple[FunctionType, CodeType]]:
    module = importlib.import_module(name)
    assert module.__file__
    text = edited = Path(module.__file__).read_text("utf-8")
    for mutant in mutants:
        if text.count(mutant.old) != 1:
            raise LookupError(f"{mutant.name}: its text stands {text.count(mutant.old)} times in {name}")
        edited = edited.replace(mutant.old, mutant.new)
    changed = list(_changed(module, text, edited))
    if not changed:
        raise LookupError(f"{[m.name for m in mutants]} change no function")
    return changed


def _changed(module: Any, text: str, changed: str) -> Iterator[tuple[FunctionType, CodeType]]:
    """The module's functions and methods in which two texts of it differ, with their code by the second."""
    for old, new in zip(ast.parse(text).body, ast.parse(changed).body, strict=True):
        if isinstance(new, ast.ClassDef) and isinstance(old, ast.ClassDef):
            pairs = [(vars(getattr(module, new.name)), b, a) for b, a in zip(old.body, new.body, strict=True)]
        else:
            pairs = [(vars(module), old, new)]
        for names, before, after in pairs:
            if isinstance(after, ast.FunctionDef) and ast.dump(before) != ast.dump(after):
                yield _plain(names[after.name]), _code(module, after)


def _plain(value: Any) -> FunctionType:
    inner = value.fget if isinstance(value, property) else getattr(value, "__wrapped__", value)
    assert isinstance(inner, FunctionType)
    return inner


def _code(module: Any, function: ast.FunctionDef) -> CodeType:
    function.decorator_list = []
    made: dict[str, Any] = {}
    future = ast.parse("from __future__ import annotations").body
    exec(compile(ast.Module([*future, function], []), module.__file__, "exec"), vars(module), made)
    code = made[function.name].__code__
    assert isinstance(code, CodeType)
    return code
