"""Each rule of the ledger, one at a time; test_protocol_machine.py drives them in any order."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from ledger_case import SOURCE, at, committed, definition, log, new_ledger, published, refusal, sealed, segment

from tideline.cut import Cut
from tideline.errors import (
    ChecksumError,
    DefinitionSetError,
    FenceError,
    GapError,
    MissingSegmentError,
    MissingViewError,
    ProtocolError,
    StaleCommitError,
    StoreError,
    TilingError,
    UsageError,
)
from tideline.ledger import Ledger, LogStats
from tideline.merge import view_spaces


@pytest.fixture
def ledger() -> Ledger:
    return new_ledger()


def test_a_new_view_is_live_from_the_first_seal(ledger: Ledger) -> None:
    assert ledger.live == {"v": "v1"}
    assert ledger.settled
    assert view_spaces(ledger, "v1") == ([], ["g2/v1"])


def test_a_commit_moves_the_cut_and_counts_the_log(ledger: Ledger) -> None:
    after = committed(committed(ledger, at(10), 8, 5), at(12, 3), 2, 6)
    assert after.committed == at(12, 3)
    assert after.log() == {"sales": {0: LogStats(10, 5 ^ 6, 10)}}


def test_an_empty_range_commits(ledger: Ledger) -> None:
    assert committed(ledger, ledger.committed).committed == ledger.committed


def test_a_commit_that_begins_before_the_cut_is_refused(ledger: Ledger) -> None:
    after = committed(ledger, at(10))
    error = refusal(StaleCommitError, lambda: after.commit(1, at(9), at(11), ["v1"], log(2)))
    assert error.params == {"topic": "sales", "partition": 0, "found": 9, "expected": 10}


def test_a_commit_that_leaves_a_gap_is_refused(ledger: Ledger) -> None:
    error = refusal(GapError, lambda: ledger.commit(1, at(0, 3), at(5, 5), ["v1"], log(2)))
    assert error.params == {"topic": "sales", "partition": 1, "expected": 0, "found": 3}


def test_a_commit_on_one_partition_ahead_and_one_behind_is_refused(ledger: Ledger) -> None:
    after = committed(ledger, at(10, 10))
    refusal(StaleCommitError, lambda: after.commit(1, at(9, 11), at(12, 12), ["v1"], log(2)))


def test_what_was_committed_is_cut_off_a_replayed_range(ledger: Ledger) -> None:
    after = committed(ledger, at(10, 4))
    assert after.next_range(at(3, 4), at(12, 4)) == (at(10, 4), at(12, 4))
    assert after.next_range(at(3), at(8)) == (at(10, 4), at(10, 4))
    refusal(GapError, lambda: after.next_range(at(11, 4), at(12, 4)))


def test_a_commit_under_other_definitions_is_refused(ledger: Ledger) -> None:
    error = refusal(DefinitionSetError, lambda: ledger.commit(1, at(0), at(1), ["v1", "w1"], log(1)))
    assert error.params["expected"] == ["v1"]


def test_more_records_than_offsets_are_refused(ledger: Ledger) -> None:
    assert refusal(ProtocolError, lambda: committed(ledger, at(3), 4)).condition == "LOG_OUT_OF_RANGE"
    assert refusal(ProtocolError, lambda: committed(ledger, Cut({"x": {0: 1}}))).condition == "UNKNOWN_TOPIC"


def test_the_older_fence_is_refused(ledger: Ledger) -> None:
    after, token = ledger.take_fence("speed")
    error = refusal(FenceError, lambda: after.commit(1, at(0), at(1), ["v1"], {}))
    assert error.params == {"layer": "speed", "token": 1, "current": token}
    after, _ = ledger.take_fence("batch")
    for step in (after.seal, lambda t: after.archive(t, at(0), {}), lambda t: after.allot(t, 1)):
        refusal(FenceError, lambda step=step: step(1))
    assert refusal(ProtocolError, lambda: ledger.take_fence("serving")).condition == "UNKNOWN_LAYER"


def test_a_seal_with_nothing_to_close_changes_nothing(ledger: Ledger) -> None:
    assert ledger.seal(1) is ledger
    once = committed(ledger, at(5)).seal(1)
    assert [g.end for g in once.generations] == [at(5), None]
    assert once.seal(1) is once


def test_what_is_applied_comes_into_force_with_the_seal(ledger: Ledger) -> None:
    busy = committed(ledger, at(5))
    applied = busy.apply({"sales": SOURCE}, {"v2": definition("v", "v2")}, {"v": "v2"}, {"sales": "id"}, at(0))
    assert applied.open.definitions == ("v1",)
    after = applied.seal(1)
    assert after.open.definitions == ("v1", "v2")
    assert after.live == {"v": "v1"}
    assert after.unbuilt == {"v": "v2"}


def test_publish_expires_the_generations_that_it_covers(ledger: Ledger) -> None:
    after = published(ledger, at(5))
    assert after.version.cut == at(5)
    assert [g.begin for g in after.generations] == [at(5)]
    assert after.live == {"v": "v1"}
    again = published(after, at(9), 2)
    assert again.version.views == {"v1": (1, 2)}
    assert view_spaces(again, "v1") == (["s1", "s2"], [again.open.space("v1")])


def test_publish_at_a_cut_that_is_not_sealed_is_refused(ledger: Ledger) -> None:
    ready = sealed(ledger, at(5))
    error = refusal(ProtocolError, lambda: ready.publish(1, at(4), {"v1": [1]}, [segment(1, at(0), at(4))], {}))
    assert error.condition == "CUT_NOT_SEALED"


def test_publish_before_the_archive_is_refused(ledger: Ledger) -> None:
    ready = committed(ledger, at(5), 1).seal(1).allot(1, 1)[0]
    error = refusal(ProtocolError, lambda: ready.publish(1, at(5), {"v1": [1]}, [segment(1, at(0), at(5))], log(1)))
    assert (error.condition, error.params["archived"], error.params["wanted"]) == ("NOT_ARCHIVED", 0, 5)


@pytest.mark.parametrize(
    "pieces",
    [
        [(0, 4)],
        [(0, 6)],
        [(1, 5)],
        [(0, 2), (3, 5)],
        [(0, 3), (2, 5)],
        [(2, 5), (0, 2)],
        [],
    ],
)
def test_segments_that_do_not_tile_are_refused(ledger: Ledger, pieces: list[tuple[int, int]]) -> None:
    ready = sealed(ledger, at(5)).allot(1, 5)[0]
    fresh = [segment(id, at(begin), at(end)) for id, (begin, end) in enumerate(pieces, 1)]
    views = {"v1": [one.id for one in fresh]}
    error = refusal(TilingError, lambda: ready.publish(1, at(5), views, fresh, log(1)))
    assert error.condition == "SEGMENTS_DO_NOT_TILE"
    assert error.params["view"] == "v"


def test_segments_of_another_view_or_of_no_known_id_are_refused(ledger: Ledger) -> None:
    ready = sealed(ledger, at(5))
    alien = segment(1, at(0), at(5), view="v9")
    refusal(TilingError, lambda: ready.publish(1, at(5), {"v1": [1]}, [alien], log(1)))
    error = refusal(ProtocolError, lambda: ready.publish(1, at(5), {"v1": [1]}, [], log(1)))
    assert error.condition == "UNKNOWN_SEGMENT"
    early = segment(99, at(0), at(5))
    error = refusal(ProtocolError, lambda: ready.publish(1, at(5), {"v1": [99]}, [early], log(1)))
    assert error.condition == "SEGMENT_ID"


def test_a_publish_without_a_live_view_is_refused(ledger: Ledger) -> None:
    ready = sealed(ledger, at(5))
    error = refusal(MissingViewError, lambda: ready.publish(1, at(5), {}, [], log(1)))
    assert error.params["view"] == "v"


@pytest.mark.parametrize("found", [log(2), log(1, 7), {}])
def test_an_archive_that_counts_other_records_is_refused(ledger: Ledger, found: Any) -> None:
    ready = sealed(ledger, at(5))
    error = refusal(ChecksumError, lambda: ready.publish(1, at(5), {"v1": [1]}, [segment(1, at(0), at(5))], found))
    assert (error.params["topic"], error.params["partition"]) == ("sales", 0)


def test_floors_never_fall(ledger: Ledger) -> None:
    def publish(before: Ledger, floor: int | None) -> Ledger:
        floors = {} if floor is None else {"v1": floor}
        return before.publish(1, at(5), {"v1": [1]}, [], log(1), floors=floors)

    after = published(ledger, at(5))
    assert after.version.floors == {}
    floors = []
    for floor in (10, 7, None, 20):
        after = publish(after, floor)
        floors.append(after.version.floors["v1"])
    assert floors == [10, 10, 10, 20]


def test_old_versions_and_their_segments_expire(ledger: Ledger) -> None:
    after = ledger
    for end in (5, 6, 7, 8):
        after = published(after, at(end), 1)
    assert [version.id for version in after.versions] == [2, 3, 4]
    assert after.spaces() == {"s1", "s2", "s3", "s4", after.open.space("v1")}
    whole = replace(segment(5, at(0), at(8)), mode="full")
    after = after.allot(1, 1)[0].publish(1, at(8), {"v1": [5]}, [whole], log(4), keep_versions=1)
    assert after.spaces() == {"s5", after.open.space("v1")}
    error = refusal(UsageError, lambda: after.find_version(2))
    assert error.params == {"version": 2, "known": [5]}
    refusal(ProtocolError, lambda: after.expire(1, 0))


def test_a_new_view_goes_live_with_its_first_publish_and_not_before(ledger: Ledger) -> None:
    first = published(ledger, at(5))
    applied = first.apply({"sales": SOURCE}, {"v2": definition("v", "v2")}, {"v": "v2"}, {"sales": "id"}).allot(1, 1)[0]
    whole = segment(2, at(0), at(5), view="v2")
    error = refusal(DefinitionSetError, lambda: applied.publish(1, at(5), {"v2": [2]}, [whole], log(1)))
    assert error.condition == "VIEW_NOT_FOLDED"
    after = applied.seal(1).publish(1, at(5), {"v2": [2]}, [whole], log(1))
    assert after.live == {"v": "v2"}
    assert after.open.definitions == ("v1", "v2")
    assert after.seal(1).open.definitions == ("v2",)
    assert refusal(MissingSegmentError, lambda: view_spaces(after, "v2", 1)).condition == "VIEW_NOT_IN_VERSION"


def test_a_view_that_is_no_longer_wanted_goes_with_the_next_publish(ledger: Ledger) -> None:
    applied = published(ledger, at(5)).apply({"sales": SOURCE}, {}, {}, {"sales": "id"})
    assert applied.live == {"v": "v1"}
    after = applied.seal(1).publish(1, at(5), {}, [], log(1), keep_versions=1)
    assert after.live == {}
    assert after.seal(1).definitions == {"v1": definition("v", "v1")}  # the generation still names it
    assert refusal(UsageError, lambda: after.fingerprint("v")).params == {"view": "v", "known": []}


def test_a_view_that_was_withdrawn_while_it_was_built_is_left_out(ledger: Ledger) -> None:
    ready = sealed(ledger, at(5)).allot(1, 1)[0]
    fresh = [segment(1, at(0), at(5)), segment(2, at(0), at(5), view="gone")]
    after = ready.publish(1, at(5), {"v1": [1], "gone": [2]}, fresh, log(1))
    assert after.version.views == {"v1": (1,)}
    assert list(after.segments) == [1]


def test_overtaking_moves_the_cut_and_keeps_the_rules_of_publish(ledger: Ledger) -> None:
    ready = committed(ledger, at(5), 1, 3).archive(1, at(9, 2), ledger.sources).allot(1, 1)[0]
    ready, token = ready.take_fence("speed")
    taken = ready.overtake(token, at(9, 2), log(2, 8))
    assert taken.committed == taken.sealed == at(9, 2)
    assert refusal(MissingSegmentError, lambda: view_spaces(taken, "v1")).condition == "GENERATION_LACKS_VIEW"
    whole = segment(1, at(0), at(9, 2))
    refusal(ChecksumError, lambda: taken.publish(1, at(9, 2), {"v1": [1]}, [whole], log(3, 8)))
    after = taken.publish(1, at(9, 2), {"v1": [1]}, [whole], log(3, 3 ^ 8))
    assert after.version.cut == after.committed == at(9, 2)
    refusal(FenceError, lambda: after.commit(1, at(9, 2), at(10, 2), ["v1"], log(1)))
    assert after.commit(token, at(9, 2), at(10, 2), ["v1"], log(1)).committed == at(10, 2)


def test_overtaking_needs_the_speed_layers_fence(ledger: Ledger) -> None:
    refusal(FenceError, lambda: ledger.overtake(0, at(9), {}))
    behind = committed(ledger, at(5))
    assert refusal(ProtocolError, lambda: behind.overtake(1, at(4), {})).condition == "CUT_FALLS"


def test_a_ledger_survives_json(ledger: Ledger) -> None:
    after = committed(published(ledger, at(5)), at(7), 2, 9)
    assert Ledger.from_json(json.loads(json.dumps(after.to_json()))) == after


def test_a_ledger_of_another_format_is_refused(ledger: Ledger) -> None:
    error = refusal(StoreError, lambda: Ledger.from_json({**ledger.to_json(), "format": 2}))
    assert error.params == {"found": 2, "known": 1}


def test_rejects_are_counted_from_the_origin(ledger: Ledger) -> None:
    busy = ledger.commit(1, at(0), at(5), ["v1"], log(5), {"v1": 2})
    assert busy.rejects("v1") == 2
    ready = busy.seal(1).archive(1, at(5), busy.sources).allot(1, 1)[0]
    fresh = [segment(1, at(0), at(5))]
    after = ready.publish(1, at(5), {"v1": [1]}, fresh, log(5), rejects={"v1": 2})
    assert after.commit(1, at(5), at(6), ["v1"], log(1), {"v1": 1}).rejects("v1") == 3


def test_statistics_merge_whatever_the_order() -> None:
    left, right = LogStats(2, 5, 1, {"bad": 1}, 0, 7), LogStats(1, 3, 1, {}, 1, None)
    assert left.merge(right) == right.merge(left) == LogStats(3, 6, 2, {"bad": 1}, 1, 7)
