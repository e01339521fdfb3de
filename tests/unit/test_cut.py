"""Positions in the log (invariant 1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tideline.cut import EMPTY_CUT, Cut
from tideline.errors import UsageError

offsets = st.dictionaries(st.integers(0, 3), st.integers(0, 1000), max_size=3)
cuts = st.dictionaries(st.sampled_from(["sales", "a.b-c_d", "u"]), offsets, max_size=3).map(Cut)


def test_a_partition_that_is_not_listed_stands_at_0() -> None:
    cut = Cut({"sales": {0: 10}})
    assert cut.offset("sales", 0) == 10
    assert cut.offset("sales", 1) == cut.offset("other", 0) == 0


def test_equal_positions_are_equal_whatever_they_list() -> None:
    assert Cut({"sales": {0: 10, 1: 0}}) == Cut({"sales": {0: 10}})
    assert hash(Cut({"sales": {0: 10, 1: 0}})) == hash(Cut({"sales": {0: 10}}))
    assert Cut({"sales": {0: 10}}) != Cut({"sales": {0: 11}})
    assert Cut({"sales": {}}) == EMPTY_CUT
    assert list(Cut({"sales": {0: 10, 1: 0}}).partitions()) == [("sales", 0, 10), ("sales", 1, 0)]


def test_a_cut_is_written_as_topic_partition_and_offset() -> None:
    cut = Cut({"visits": {0: 3}, "sales": {1: 5, 0: 10}})
    assert str(cut) == "sales:0=10,1=5,visits:0=3"
    assert cut.to_json() == {"sales": {"0": 10, "1": 5}, "visits": {"0": 3}}
    assert Cut.parse(" sales:0=10, 1=5 ,visits:0=3") == cut


@pytest.mark.parametrize("text", ["sales", "0=1", "sales:0", "sales:x=1", "sales:0=-1", "sales:-1=1", "sales:0=1=2"])
def test_what_is_no_cut_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        Cut.parse(text)
    assert refused.value.condition == "BAD_CUT"
    assert refused.value.params == {"text": text}


def test_the_distance_of_two_cuts_counts_offsets() -> None:
    assert Cut({"a": {0: 10, 1: 4}, "b": {0: 1}}).count_since(Cut({"a": {0: 7}})) == 8


def test_complete_lists_only_whole_topics_that_are_missing() -> None:
    cut = Cut({"a": {0: 1}}).complete(Cut({"a": {0: 5, 1: 5}, "b": {0: 5}}))
    assert cut.to_json() == {"a": {"0": 1}, "b": {"0": 5}}


@given(cuts)
def test_a_cut_survives_text_and_json(cut: Cut) -> None:
    assert Cut.parse(str(cut)) == cut
    assert Cut.from_json(cut.to_json()) == cut


@given(cuts, cuts)
def test_advance_is_the_least_cut_that_covers_both(left: Cut, right: Cut) -> None:
    both = left.advance(right)
    assert both.covers(left)
    assert both.covers(right)
    assert both == right.advance(left)
    assert (both == left) == left.covers(right)


@given(cuts, cuts, cuts)
def test_covers_is_a_partial_order(a: Cut, b: Cut, c: Cut) -> None:
    assert a.covers(a)
    assert not (a.covers(b) and b.covers(a)) or a == b
    assert not (a.covers(b) and b.covers(c)) or a.covers(c)
