"""Catalogs that change over a living installation, and an installation that is built again from its master."""

from __future__ import annotations

import pytest
from cases import few_views, make_events, make_source
from installed import Installed

from tideline import Count, Max, Sum, View
from tideline.apply import plan_changes
from tideline.errors import UsageError


def test_measures_in_another_order_are_another_view_and_answer_the_same(installed: Installed) -> None:
    source = make_source(installed.topic)
    measures = {"lines": Count(), "units": Sum("quantity"), "most": Max("quantity")}
    installed.apply(View("v", source=source, measures=measures))
    installed.send(make_events(60, 200))
    installed.batch()
    before, first = installed.answers("v"), installed.ledger.live["v"]
    turned = View("v", source=source, measures=dict(reversed(measures.items())))
    actions = {change.name: change.action for change in plan_changes(installed.ledger, installed.resolve([turned]))}
    assert actions == {"events": "keep", "v": "rebuild"}
    with installed.speed():
        installed.apply(turned)
        assert installed.answers("v") == before
        installed.batch()
        assert installed.ledger.live["v"] != first
        assert installed.answers("v") == before
        installed.send(make_events(40, 201, first=60))
        installed.wait_committed()
    (answer,) = installed.answers("v").values()
    assert (list(answer), answer["lines"]) == (["most", "units", "lines"], 100)


def test_a_source_left_out_of_the_catalog_is_archived_on_and_comes_back_whole(installed: Installed) -> None:
    views = few_views(make_source(installed.topic))
    elsewhere = View("elsewhere", source=make_source(f"{installed.topic}-other", "others"), measures={"n": Count()})
    installed.apply(*views)
    installed.send(make_events(50, 210))
    installed.batch()
    installed.apply(elsewhere)
    assert set(installed.ledger.sources) == {"events", "others"}
    with installed.speed():
        installed.send(make_events(50, 211, first=50))
        installed.wait_committed()
        assert installed.batch()["version"] == 2
        assert installed.ledger.archived.covers(installed.log_end)
        assert set(installed.ledger.live) == {"elsewhere"}
        installed.apply(*views)
        installed.send(make_events(50, 212, first=100))
        installed.wait_committed()
        installed.batch()
        assert installed.wrong() == []
    assert sum(stats.records for stats in installed.ledger.log()[installed.topic].values()) == 150


def test_a_source_stays_with_its_topic(installed: Installed) -> None:
    installed.apply_few()
    with pytest.raises(UsageError) as caught:
        installed.apply(*few_views(make_source(f"{installed.topic}-other")))
    assert caught.value.condition == "TOPIC_CHANGED"
    assert caught.value.params["known"] == installed.topic
    assert set(installed.ledger.topic_ids) == {installed.topic}


def test_a_store_that_is_lost_is_built_again_from_the_master(installed: Installed) -> None:
    installed.apply_few()
    installed.send(make_events(80, 220))
    installed.batch()
    origin = installed.ledger.origin
    installed.send(make_events(40, 221, first=80))
    installed.batch()
    found, cut = installed.look(), installed.ledger.version.cut
    installed.lose_store()
    installed.apply_few()
    assert (installed.ledger.origin, installed.ledger.version.id) == (origin, 0)
    assert installed.batch()["rows"] == 120
    assert installed.ledger.version.cut == cut
    assert installed.look() == found
    installed.send(make_events(40, 222, first=120))
    with installed.speed():
        installed.wait_committed()
        assert installed.wrong() == []
