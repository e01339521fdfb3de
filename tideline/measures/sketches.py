"""Approximate measures whose states stay small: distinct values and quantiles."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from datasketches import hll_sketch, hll_union, tgt_hll_type

from tideline.errors import DefinitionError
from tideline.measures.base import Entries, Measure, Part, needs_expression
from tideline.measures.counts import add_counts
from tideline.types import BIGINT, DOUBLE, STRING, ColumnType


@dataclass(frozen=True)
class ApproxDistinct(Measure):
    """The number of distinct non-null values, estimated by an Apache DataSketches HLL sketch.

    The state is the sketch's bytes: some bytes for few values, 2**lg_k bytes at most. Relative standard error
    1.04 / sqrt(2**lg_k). Values are tagged before hashing, so that the empty text counts as a value.
    """

    lg_k: int = 12

    kind = "approx_distinct"
    takes = "a value"

    def __post_init__(self) -> None:
        needs_expression(self)
        if not 4 <= self.lg_k <= 21:
            raise DefinitionError("BAD_OPTION", measure=self.kind, option="lg_k", value=self.lg_k, expected="4 to 21")

    def parts(self) -> Sequence[Part]:
        _kind, sql = self.wire()
        return (Part("sketch", "hll", STRING, f"concat('v', cast({sql} as string))", self.lg_k),)

    def states(self, parts: Sequence[Sequence[Any]]) -> list[bytes]:
        return [self.merge(sketch, b"") if sketch else b"" for sketch in parts[0]]

    def zero(self) -> bytes:
        return b""

    def _union(self, *states: bytes) -> hll_union:
        union = hll_union(self.lg_k)
        for state in states:
            if state:
                union.update(hll_sketch.deserialize(state))
        return union

    def merge(self, left: bytes, right: bytes) -> bytes:
        union = self._union(left, right)
        return b"" if union.is_empty() else bytes(union.get_result(tgt_hll_type.HLL_8).serialize_compact())

    def present(self, state: bytes) -> int:
        # A sketch united with itself keeps its registers and forgets the order of its updates, so that the estimate is
        # the composite one, a function of the registers alone, whichever way the state was merged.
        return round(self._union(state, state).get_estimate()) if state else 0

    @property
    def answer_type(self) -> ColumnType:
        return BIGINT

    @property
    def bound(self) -> Mapping[str, Any]:
        error = 1.04 / math.sqrt(2**self.lg_k)
        return {
            "exact": False,
            "kind": "relative standard error",
            "bound": error,
            "text": f"relative standard error {error:.2%}",
        }

    def canonical(self, state: bytes) -> int:
        return self.present(state)


_ALPHA = 0.01
_LN_GAMMA = math.log((1 + _ALPHA) / (1 - _ALPHA))
_SHIFT, _INFINITE, _NAN = 100_000, 1_000_000, 2_000_000
_LARGEST = math.log(sys.float_info.max)


@dataclass(frozen=True)
class Quantiles(Measure):
    """Quantiles of the non-null values, each within 1 % of the value of that rank.

    State: counts in logarithmic buckets {bin: count}, as in DDSketch (Masson, Rim and Lee, VLDB 2019). It merges
    exactly in any order. The value at `q` is the one of rank ceil(q * n), at least the first; NaN is the largest.
    """

    at: Sequence[float] = (0.5, 0.95, 0.99)

    kind = "quantiles"
    takes = "a number"

    def __post_init__(self) -> None:
        needs_expression(self)
        object.__setattr__(self, "at", tuple(self.at))
        if not self.at or not all(isinstance(q, (int, float)) and 0 <= q <= 1 for q in self.at):
            raise DefinitionError(
                "BAD_OPTION", measure=self.kind, option="at", value=list(self.at), expected="numbers from 0 to 1"
            )

    def accepts(self, input_type: ColumnType) -> bool:
        return input_type.is_numeric

    def entries(self) -> Entries:
        x = self.value(DOUBLE)
        finite = f"sign({x}) * ({_SHIFT} + ceil(ln(abs({x})) / {_LN_GAMMA!r}D))"
        infinite = f"sign({x}) * {_INFINITE}"
        sql = (
            f"case when {x} is null then null when isnan({x}) then {_NAN}L when {x} = 0 then 0L "
            f"when abs({x}) = double('Infinity') then cast({infinite} as bigint) else cast({finite} as bigint) end"
        )
        return Entries(BIGINT, sql)

    def zero(self) -> dict[int, int]:
        return {}

    def merge(self, left: Mapping[int, int], right: Mapping[int, int]) -> dict[int, int]:
        return add_counts(left, right)

    def present(self, state: Mapping[int, int]) -> dict[str, float | None]:
        total = sum(state.values())
        ordered = sorted(state.items())
        return {quantile_name(q): _value_at(ordered, max(1, math.ceil(q * total))) if total else None for q in self.at}

    def answer_json(self, answer: Mapping[str, float | None]) -> Any:
        return {name: super(Quantiles, self).answer_json(value) for name, value in answer.items()}

    @property
    def bound(self) -> Mapping[str, Any]:
        return {"exact": False, "kind": "relative to the value", "bound": _ALPHA, "text": "within 1 % of the value"}


def quantile_name(q: float) -> str:
    """The answer's field for a quantile: 0.5 is p50, 0.999 is p99_9."""
    return "p" + f"{q * 100:.6g}".replace(".", "_")


def _value_at(ordered: Sequence[tuple[int, int]], rank: int) -> float:
    seen = accumulate(count for _, count in ordered)
    index = next(index for (index, _), reached in zip(ordered, seen, strict=True) if reached >= rank)
    if index in (_NAN, _INFINITE, -_INFINITE, 0):
        return math.nan if index == _NAN else 0.0 if index == 0 else math.copysign(math.inf, index)
    # The middle of a bin in relative terms, 2 g**i / (g + 1) = g**i * (1 - alpha), is at most 1 % from either end.
    exponent = (abs(index) - _SHIFT) * _LN_GAMMA + math.log1p(-_ALPHA)
    return math.copysign(math.exp(min(exponent, _LARGEST)), index)
