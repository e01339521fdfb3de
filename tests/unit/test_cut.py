"""Positions in the log (invariant 1)."""

from __future__ import annotations

import pytest
from fuzzing import fuzz
from hypothesis import given
from hypothesis import strategies as st

from tideline.cut import EMPTY_CUT, Cut
from tideline.errors import UsageError

offsets = st.dictionaries(st.integers(0, 3), st.integers(0, 1000), max_size=3)
cuts = st.dictionaries(st.sampled_from(["sales", "a.b-c_d", "u"]), offsets, max_size=3).map(Cut)


@st.composite
def mangled(draw: st.DrawFn, text: str) -> str:
    """A text with a letter changed, cut out or put in."""
    at, letter = draw(st.integers(0, len(text))), draw(st.sampled_from([*":=,-+ x0١"]))
    return draw(st.sampled_from([text[:at] + letter + text[at + 1 :], text[:at] + letter + text[at:], text[:at]]))


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


@pytest.mark.parametrize(
    "text",
    [
        "sales",
        "0=1",
        "sales:0",
        "sales:x=1",
        "sales:0=-1",
        "sales:-1=1",
        "sales:0=1=2",
        "sales:0=1,0=2",
        "sales:٣=1",
        "a/b:0=1",
    ],
)
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


TOPICS = st.from_regex(r"[A-Za-z0-9._-]{1,20}", fullmatch=True)
ANY_CUT = st.dictionaries(
    TOPICS, st.dictionaries(st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1), max_size=3), max_size=4
).map(Cut)


@fuzz(150)
@given(ANY_CUT)
def test_any_cut_that_kafka_can_have_survives_its_text(cut: Cut) -> None:
    again = Cut.parse(str(cut))
    assert again == cut
    assert str(again) == str(cut)


@fuzz(250)
@given(st.one_of(st.text(max_size=30), st.text("ab:=,01 9_-١²\n", max_size=20), ANY_CUT.map(str).flatmap(mangled)))
def test_any_text_is_a_cut_or_a_usage_error(text: str) -> None:
    try:
        cut = Cut.parse(text)
    except UsageError:
        return
    assert Cut.parse(str(cut)) == cut
    assert all(offset >= 0 and partition >= 0 and topic for topic, partition, offset in cut.partitions())
