"""What may be applied, which topics a ledger knows, and how it is recovered."""

from __future__ import annotations

import json

import pytest
from ledger_case import SOURCE, STREET, at, committed, definition, log, new_ledger, published, refusal

from tideline.cut import Cut
from tideline.errors import (
    DefinitionSetError,
    FenceError,
    ProtocolError,
    TopicRecreatedError,
)
from tideline.ledger import Ledger, Loss
from tideline.merge import view_spaces


@pytest.fixture
def ledger() -> Ledger:
    return new_ledger()


def test_archive_is_read_under_the_ledgers_sources_and_never_goes_back(ledger: Ledger) -> None:
    error = refusal(DefinitionSetError, lambda: ledger.archive(1, at(5), {"sales": {**SOURCE, "schema": "x"}}))
    assert error.condition == "SOURCES_CHANGED"
    after = ledger.archive(1, at(5), ledger.sources)
    assert refusal(ProtocolError, lambda: after.archive(1, at(4), after.sources)).condition == "CUT_FALLS"


def test_a_new_topic_stands_at_its_origin_everywhere(ledger: Ledger) -> None:
    busy = published(ledger, at(5))
    sources = {"sales": SOURCE, "street": STREET}
    definitions = {"v1": definition("v", "v1"), "x1": definition("x", "x1", "street")}
    ids, wanted = {"sales": "id", "street": "other"}, {"v": "v1", "x": "x1"}
    error = refusal(ProtocolError, lambda: busy.apply(sources, definitions, wanted, ids))
    assert (error.condition, error.params) == ("NO_ORIGIN", {"topic": "street"})
    after = busy.apply(sources, definitions, wanted, ids, Cut({"street": {0: 100}})).seal(1)
    assert after.committed == Cut({"sales": {0: 5}, "street": {0: 100}})
    assert after.live == wanted
    grown = after.commit(1, after.committed, Cut({"sales": {0: 5}, "street": {0: 101}}), ["v1", "x1"], {})
    assert view_spaces(grown, "x1") == ([], [grown.open.space("x1")])


def test_a_range_that_was_read_before_a_topic_was_added_still_commits(ledger: Ledger) -> None:
    sources = {"sales": SOURCE, "street": STREET}
    after = ledger.apply(sources, {}, {"v": "v1"}, {"sales": "id", "street": "x"}, Cut({"street": {0: 100}}))
    assert after.commit(1, at(0), at(3), ["v1"], log(3)).committed.offset("street", 0) == 100


def test_a_topic_that_was_made_again_is_refused(ledger: Ledger) -> None:
    error = refusal(TopicRecreatedError, lambda: ledger.check_topics({"sales": "new"}))
    assert error.params == {"topic": "sales", "found": "new", "expected": "id"}
    ledger.check_topics({"sales": "id", "unknown": "x"})
    refusal(TopicRecreatedError, lambda: ledger.apply({"sales": SOURCE}, {}, {}, {"sales": "new"}))


def test_an_old_view_keeps_the_source_that_it_was_defined_over(ledger: Ledger) -> None:
    wider = {**SOURCE, "schema": "more"}
    after = ledger.apply({"sales": wider}, {"v2": definition("v", "v2")}, {"v": "v2"}, {"sales": "id"})
    assert after.source_of("v1") == SOURCE
    assert after.source_of("v2") == wider
    back = after.apply({"sales": SOURCE}, {"v1": definition("v", "v1")}, {"v": "v1"}, {"sales": "id"})
    assert back.source_of("v1") == SOURCE


def test_apply_refuses_what_it_does_not_know(ledger: Ledger) -> None:
    error = refusal(ProtocolError, lambda: ledger.apply({"sales": SOURCE}, {}, {"w": "w1"}, {"sales": "id"}))
    assert error.condition == "UNKNOWN_DEFINITION"
    error = refusal(
        ProtocolError, lambda: ledger.apply({}, {"w1": definition("w", "w1")}, {"w": "w1"}, {"sales": "id"})
    )
    assert error.condition == "UNKNOWN_SOURCE"


def test_recovery_goes_back_to_the_last_version_and_enters_what_is_lost(ledger: Ledger) -> None:
    before = committed(published(ledger, at(5)), at(9), 4).seal(1)
    before = committed(before, at(12), 3)
    lost = Loss("sales", 0, 5, 11, "expired")
    after = before.recover(1, 1, at(11), [lost])
    assert (after.committed, after.archived) == (at(5), at(11))
    assert after.versions == before.versions
    assert [(g.begin, g.end, g.log) for g in after.generations] == [(at(5), None, {})]
    assert after.open.id not in [generation.id for generation in before.generations]
    assert after.live == before.live
    assert after.losses == after.recover(1, 1, at(11), [lost]).losses == (lost,)
    assert Ledger.from_json(json.loads(json.dumps(after.to_json()))) == after


def test_recovery_goes_back_to_the_origin_where_the_master_lost_what_was_published(ledger: Ledger) -> None:
    before = published(ledger, at(5))
    after = before.recover(1, 1, at(3), [])
    assert (after.committed, after.archived, after.version.cut) == (at(0), at(3), at(0))
    assert after.version.id > before.version.id
    assert (after.version.views, after.segments, after.spaces()) == ({}, {}, {after.open.space("v1")})


def test_recovery_needs_both_fences(ledger: Ledger) -> None:
    for layer, tokens in (("speed", (0, 1)), ("batch", (1, 0))):
        with pytest.raises(FenceError) as caught:
            ledger.recover(*tokens, at(0), [])
        assert caught.value.params["layer"] == layer
