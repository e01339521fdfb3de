"""Views that fail: which are blamed, and what a quarantine leaves of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from serving_case import ALL, REVENUE, SALES, TOTALS, Installation, installed, make_events
from test_ledger import at, committed, definition, ledger, published, refusal, sealed  # noqa: F401

from serving_layer.find import NotReadyError
from serving_layer.query import Query
from serving_layer.reader import Reader
from tideline.cut import Cut
from tideline.definition import ViewDefinition
from tideline.errors import DefinitionSetError, FenceError, StoreError
from tideline.ledger import Ledger
from tideline.merge import view_spaces
from tideline.quarantine import failing, may_be_a_views
from tideline.stores.memory import MemoryStore


@pytest.fixture
def installation() -> Installation:
    return installed(MemoryStore(Ledger.create("test")), 90)


def quarantine(installation: Installation, view: ViewDefinition, layer: str = "speed") -> None:
    token = installation.speed if layer == "speed" else installation.batch
    with installation.store.write() as txn:
        txn.put_ledger(txn.ledger.quarantine(layer, token, {view.fingerprint: "ValueError: broken"}, 1.5))


def apply(installation: Installation, *views: ViewDefinition, retry: tuple[str, ...] = ()) -> Ledger:
    with installation.store.write() as txn:
        after = txn.ledger.apply(
            {"sales": SALES.to_json()},
            {view.fingerprint: view.to_json() for view in views},
            {view.name: view.fingerprint for view in views},
            {"sales": "topic-1"},
            retry=retry,
        )
        txn.put_ledger(after)
    return after


# Who is blamed.


def broken(*views: str) -> Callable[[tuple[str, ...]], None]:
    """Work that some views make fail."""

    def attempt(given: tuple[str, ...]) -> None:
        if found := set(views) & set(given):
            raise ValueError(f"{min(found)} fails\nand more")

    return attempt


def test_the_views_that_fail_alone_are_named_with_their_reason() -> None:
    assert failing("abc", broken("b"), ValueError("all")) == {"b": "ValueError: b fails"}
    assert failing("abc", broken("a", "c"), ValueError("all")).keys() == {"a", "c"}


def test_what_fails_without_any_view_or_with_none_of_them_is_no_views_fault() -> None:
    def always(_: tuple[str, ...]) -> None:
        raise ConnectionError("away")

    with pytest.raises(ConnectionError):
        failing("ab", always, ValueError("all"))
    with pytest.raises(ValueError, match="all"):
        failing("ab", broken(), ValueError("all"))


def test_a_fault_outside_during_the_search_blames_nobody() -> None:
    calls: list[tuple[str, ...]] = []

    def goes_away(given: tuple[str, ...]) -> None:
        calls.append(given)
        if len(calls) > 2:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        failing("abc", goes_away, ValueError("all"))

    def at_the_end(given: tuple[str, ...]) -> None:
        if len(calls) and given == ():
            raise StoreError("STORE_FAILED", path="x", reason="full")
        calls.append(given)
        broken("a")(given)

    calls.clear()
    with pytest.raises(StoreError):
        failing("a", at_the_end, ValueError("all"))


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        MemoryError(),
        ConnectionError("away"),
        StoreError("STORE_FAILED", path="x", reason="MDB_MAP_FULL"),
        FenceError("FENCED", layer="speed", token=1, current=2),
        pa.ArrowInvalid("Parquet magic bytes not found"),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_faults_of_disk_store_memory_network_and_files_are_never_a_views(error: BaseException) -> None:
    assert not may_be_a_views(error)
    assert may_be_a_views(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"))
    assert may_be_a_views(OverflowError("date value out of range"))


# What is left.


def test_a_quarantined_view_is_refused_with_its_reason_and_the_others_answer_as_before(
    installation: Installation, tmp_path: Path
) -> None:
    reader = Reader(tmp_path, store=installation.store)
    before = reader.query(Query("totals")).rows
    old = reader.query(Query("revenue", version=2)).rows
    quarantine(installation, REVENUE)
    with pytest.raises(NotReadyError) as caught:
        reader.query(Query("revenue"))
    params = caught.value.params
    assert (caught.value.condition, params["reason"], params["layer"], params["versions"]) == (
        "VIEW_QUARANTINED",
        "ValueError: broken",
        "speed",
        [1, 2],
    )
    assert "--retry revenue" in caught.value.hint
    assert reader.query(Query("totals")).rows == before
    result = reader.query(Query("revenue", version=2))
    assert (result.rows, result.proof["quarantined"]) == (old, "ValueError: broken")
    assert reader.query(Query("totals")).proof["quarantined"] is None
    (entry,) = reader.status(timeout=0)["views"]["quarantined"]
    assert (entry["view"], entry["at"], Cut.from_json(entry["cut"])) == ("revenue", 1.5, reader.ledger().committed)


def test_no_generation_carries_it_and_hand_offs_go_on_without_it(installation: Installation, tmp_path: Path) -> None:
    quarantine(installation, REVENUE)
    with installation.store.snapshot() as snapshot:
        assert not [space for space in snapshot.spaces() if REVENUE.fingerprint in space]
        stale = [*snapshot.ledger.open.definitions, REVENUE.fingerprint]
    with installation.store.write() as txn, pytest.raises(DefinitionSetError):
        txn.ledger.commit(installation.speed, txn.ledger.committed, txn.ledger.committed, stale, {})
    installation.views = [view for view in installation.views if view != REVENUE]
    for _ in range(3):
        installation.commit(make_events(len(installation.events) + 30)[-30:])
        installation.publish()
    reader = Reader(tmp_path, store=installation.store)
    assert reader.query(Query("everything")).rows[0]["lines"] == len(installation.events)
    with pytest.raises(NotReadyError, match="broken"):
        reader.query(Query("revenue"))


def test_the_same_catalog_keeps_it_out_and_a_retry_or_a_correction_brings_it_back(installation: Installation) -> None:
    quarantine(installation, REVENUE, "batch")
    after = apply(installation, *installation.views)
    assert (set(after.quarantined), "revenue" in after.wanted) == ({REVENUE.fingerprint}, False)
    corrected = replace(REVENUE, fingerprint="9" * 16)
    assert corrected.fingerprint in apply(installation, corrected, TOTALS).wanted.values()
    assert apply(installation, REVENUE, TOTALS).quarantined == {}, "the corrected one has made it forgotten"
    quarantine(installation, REVENUE, "batch")
    after = apply(installation, REVENUE, TOTALS, retry=("revenue",))
    assert (after.quarantined, after.wanted["revenue"]) == ({}, REVENUE.fingerprint)
    assert "revenue" not in after.live, "built anew before it is answered"


def test_an_old_fence_quarantines_nothing(installation: Installation) -> None:
    with installation.store.write() as txn, pytest.raises(FenceError):
        txn.ledger.quarantine("speed", installation.speed - 1, {ALL.fingerprint: "x"}, 0.0)


def test_a_successor_that_fails_leaves_the_live_definition_wanted(ledger: Ledger) -> None:  # noqa: F811
    first = published(ledger, at(5))
    applied = with_view(first, "v2")
    both = applied.seal(1)
    assert both.open.definitions == ("v1", "v2")
    after = both.quarantine("speed", 1, {"v2": "broken"}, 0.0)
    assert (after.wanted, after.live, after.open.definitions) == ({"v": "v1"}, {"v": "v1"}, ("v1",))
    again = published(after, at(9), 4)
    assert again.live == {"v": "v1"}
    assert set(again.quarantined) == {"v2"}
    assert with_view(again, "v2").wanted == {"v": "v1"}, "applied again, it stays out and the live one in"


def test_a_live_definition_that_fails_leaves_its_successor_wanted(ledger: Ledger) -> None:  # noqa: F811
    both = with_view(published(ledger, at(5)), "v2").seal(1)
    after = both.quarantine("speed", 1, {"v1": "broken"}, 0.0)
    assert (after.wanted, after.live, after.open.definitions) == ({"v": "v2"}, {}, ("v2",))
    ready = sealed(after, at(9), 4).allot(1, 1)[0]
    built = ready.next_segment - 1
    from tideline.ledger import Segment

    whole = Segment(built, "v2", ready.origin, at(9), 1, "full")
    done = ready.publish(1, at(9), {"v2": [built]}, [whole], ready.log())
    assert (done.live, done.quarantined) == ({"v": "v2"}, {})


def test_a_live_definition_over_a_source_declared_anew_does_not_go_on(ledger: Ledger) -> None:  # noqa: F811
    source = {"name": "sales", "topic": "sales", "schema": "another"}
    both = with_view(published(ledger, at(5)), "v2", source).seal(1)
    after = both.quarantine("batch", 1, {"v2": "broken"}, 0.0)
    assert (after.wanted, after.live) == ({}, {"v": "v1"})
    assert view_spaces(after, "v1")[1] == [f"g{after.open.id}/v1"], "it answers until the next publish"
    ready = sealed(after, at(9), 4)
    gone = ready.publish(1, at(9), {}, [], ready.log())
    assert (gone.live, set(gone.quarantined)) == ({}, {"v2"}), "and then it is known why nothing does"
    assert with_view(gone, "v2", source).wanted == {}


def with_view(ledger: Ledger, fingerprint: str, source: dict[str, Any] | None = None) -> Ledger:  # noqa: F811
    return ledger.apply(
        {"sales": source or dict(ledger.sources["sales"])},
        {fingerprint: definition("v", fingerprint)},
        {"v": fingerprint},
        {"sales": "id"},
    )
