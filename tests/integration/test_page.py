"""The page in a real Chromium, on answers made by hand: what charts say, and what it does when something is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import serving_case
from browser import PATIENCE, Browser, Chromium, launched, needs_chromium, opened
from serving import running
from serving_case import TOTALS, Installation, installed, make_events, view

from serving_layer.app import create_app
from serving_layer.lock.tokens import TokenFile
from serving_layer.reader import Reader
from tideline.measures import Last
from tideline.stores.lmdb import LmdbStore
from tideline.types import parse_type

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), needs_chromium]
DRAW = """async ([rows, measure, flat]) => {
    const { draw } = await import("/shapes.js"), { Chart } = await import("/charts.js");
    const { options, caption } = draw(rows, measure, flat), several = ["a", "b", "c", "d", "e", "f"];
    const made = options({ ink: "i", quiet: "q", line: "l", card: "c", batch: "b", speed: "s", several });
    return { caption, series: made.series.map(({ name, type, stack, data }) => ({ name, type, stack, data })) };
}"""
SPELL = "async (values) => { const { spell } = await import('/spell.js'); return values.map(spell); }"
COUNT = """(place) => {
    window.changes = 0;
    new MutationObserver((found) => { window.changes += found.length; })
        .observe(document.querySelector(place), { childList: true, characterData: true, subtree: true });
}"""


@contextmanager
def page(
    chromium: Chromium, home: Path, made: Callable[[LmdbStore], Installation] = installed
) -> Iterator[tuple[Browser, Installation]]:
    """A browser on the page of an installation."""
    with LmdbStore.open(home, create=True) as store, Reader(home) as reader:
        installation, app = made(store), create_app(reader)
        with running(app) as url, opened(chromium, url, home) as browser:
            yield browser, installation
        app.state.live.end()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with launched() as found:
        yield found


@pytest.fixture(scope="module")
def browser(chromium: Chromium, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Of an installation that no test changes."""
    with page(chromium, tmp_path_factory.mktemp("page")) as (found, _):
        found.show("views")
        yield found


def card(browser: Browser, name: str) -> Any:
    found = browser.page.locator(f'.card[data-view="{name}"]')
    found.scroll_into_view_if_needed()
    return found


def drawn(browser: Browser, name: str, measure: str, timeout: int = PATIENCE) -> None:
    """Waits for a chart of a measure."""
    browser.page.wait_for_function(
        '([view, text]) => document.querySelector(`[data-view="${view}"] .chart`)'
        "?.getAttribute('aria-label').startsWith(text)",
        arg=[name, f"{name}, {measure}: "],
        timeout=timeout,
    )


def looks(browser: Browser, path: str, count: int = 2) -> None:
    """Waits until the page has asked for a path some more times, and heard."""
    for _ in range(count):
        with browser.page.expect_response(lambda response: path in response.url, timeout=PATIENCE):
            pass


def row(merged: Any, batch: Any, speed: Any, label: str = "a") -> dict[str, Any]:
    return {"label": label, "merged": merged, "batch": batch, "speed": speed}


def series(browser: Browser, rows: list[dict[str, Any]], measure: dict[str, str], flat: bool = True) -> dict[str, Any]:
    """What a chart of these rows draws, by the names of its series, and what is said below it."""
    found = browser.page.evaluate(DRAW, [rows, measure, flat])
    return {"caption": found["caption"], **{one["name"]: one["data"] for one in found["series"]}}


COUNTED = {"kind": "count", "type": "bigint"}


def test_numbers_are_spelled_with_all_that_counts(browser: Browser) -> None:
    shown = {
        100000.4: "100000.4",
        250000.3: "250000.3",
        12345678901.5: "12345678901.5",
        1e-10: "1e-10",
        0.1 + 0.2: "0.3",
        1 / 3: "0.333333",
        -2.5: "-2.5",
        7: "7",
        2e16: "20000000000000000",
    }
    assert browser.page.evaluate(SPELL, list(shown)) == list(shown.values())


def test_sides_of_other_signs_have_a_mark_where_the_answer_is(browser: Browser) -> None:
    found = series(browser, [row(70, 100, -30), row(130, 100, 30)], COUNTED)
    assert found["merged"] == [[70, 0]]
    assert found["tideline"] == [[100, 0], [100, 1]]
    assert "merged" not in series(browser, [row(130, 100, 30)], COUNTED)


def test_a_ranking_is_the_first_row_s_and_is_split_where_both_sides_are_known(browser: Browser) -> None:
    ranked = {"kind": "top_k", "type": "structured"}
    first = row([["C", 16], ["A", 10]], [["A", 10], ["B", 8]], [["C", 9], ["D", 5]], "Oslo")
    found = series(browser, [first, row([["Z", 1]], [["Z", 1]], None, "Rome")], ranked)
    assert (found["merged"], found["batch"]) == ([16, 10], [None, None])
    assert found["caption"].startswith("of Oslo; not split")
    whole = series(browser, [row([["A", 3]], [["A", 1]], [["A", 2]])], ranked)
    assert (whole["batch"], whole["speed"], "merged" in whole) == ([1], [2], False)
    assert series(browser, [row([["A", 3]], [["A", 3]], None)], ranked)["batch"] == [3]


def test_boxes_say_which_percentiles_they_are(browser: Browser) -> None:
    told = {"p50": 2.0, "p99_9": 9.0, "p95": 5.0}
    found = series(browser, [row(told, told, None)], {"kind": "quantiles", "type": "structured"})
    assert found["merged"] == found["batch"] == [[2.0, 2.0, 2.0, 5.0, 9.0]]
    assert found["speed"] == [[]]
    assert found["caption"] == "box p50 to p95, line p50, whiskers p50 to p99_9"


def test_categories_show_both_sides_and_the_smallest_of_many_as_one(browser: Browser) -> None:
    counted = {"kind": "count_by", "type": "structured"}
    batch, speed = {str(n): n for n in range(1, 41)}, {"40": 2, "": 1}
    merged = {**batch, "40": 42, "": 1}
    found = browser.page.evaluate(DRAW, [[row(merged, batch, speed)], counted, True])
    assert sum(value or 0 for one in found["series"][:-1] for value in one["data"]) == sum(merged.values())
    assert len({one["name"] for one in found["series"]}) == 13
    assert (found["series"][-1]["name"], found["series"][-1]["data"]) == ("tideline", [[820, 0]])
    assert found["caption"] == "the 11 largest of 41 categories"


def test_a_list_that_goes_on_says_so_and_texts_are_a_table(browser: Browser) -> None:
    one = card(browser, "revenue")
    one.locator(".kind").select_option("time")
    browser.until(
        "() => document.querySelector('[data-view=revenue] .caption').textContent.includes('newest 48, there are more')"
    )
    one.locator(".measure").select_option("last")
    one.locator("tbody tr").first.wait_for(timeout=PATIENCE)
    assert not one.locator(".chart").is_visible()


def test_what_is_read_aloud_changes_only_when_it_is_another(browser: Browser) -> None:
    looks(browser, "/v1/status", 1)
    browser.page.evaluate(COUNT, "#state")
    looks(browser, "/v1/status", 3)
    assert browser.page.evaluate("window.changes") == 0


def test_a_view_that_fails_fails_alone(chromium: Chromium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    late = Last("sold_at").resolve(parse_type("timestamp"))
    beyond = 10**18  # microseconds: the year 33658
    monkeypatch.setattr(
        serving_case,
        "MEASURES",
        {"lines": serving_case.MEASURES["lines"], "late": (late, lambda m, e: [e.at, e.partition, e.offset, beyond])},
    )
    monkeypatch.setattr(serving_case, "ANSWERS", {})
    events = make_events(90)
    views = [view("good", "country string", None, "b"), view("bad", "country string", None, "c")]
    monkeypatch.setattr(serving_case, "REVENUE", views[0])

    def made(store: LmdbStore) -> Installation:
        found = Installation(store, views)
        found.commit(events[:60])
        return found

    with page(chromium, tmp_path, made) as (browser, installation):
        browser.show("views")
        drawn(browser, "bad", "lines")
        card(browser, "bad").locator(".measure").select_option("late")
        card(browser, "bad").locator(".problem").wait_for(state="visible", timeout=PATIENCE)
        assert "late" in card(browser, "bad").locator(".problem").inner_text()
        installation.commit(events[60:])
        said = f" {len(events)} in speed"
        browser.until("(text) => document.querySelector('[data-view=good] .proof').textContent.includes(text)", said)
        assert card(browser, "bad").locator(".problem").is_visible()
        card(browser, "bad").locator(".measure").select_option("lines")
        card(browser, "bad").locator(".problem").wait_for(state="hidden", timeout=PATIENCE)
        assert not browser.page.locator("#error").is_visible()


def test_what_somebody_switched_off_stays_off(chromium: Chromium, tmp_path: Path) -> None:
    events = make_events(300)

    def made(store: LmdbStore) -> Installation:
        found = Installation(store)
        found.commit(events[:200])
        return found

    with page(chromium, tmp_path, made) as (browser, installation):
        browser.show("views")
        card(browser, "totals").locator(".measure").select_option("lines")
        drawn(browser, "totals", "lines")
        chart = "echarts.getInstanceByDom(document.querySelector('[data-view=totals] .chart'))"
        browser.page.evaluate(f"{chart}.dispatchAction({{ type: 'legendUnSelect', name: 'batch' }})")
        data = browser.page.evaluate(f"JSON.stringify({chart}.getOption().series[1].data)")
        installation.commit(events[200:])
        browser.until(f"(data) => JSON.stringify({chart}.getOption().series[1].data) !== data", data)
        assert browser.page.evaluate(f"{chart}.getOption().legend[0].selected.batch") is False


def test_a_view_in_quarantine_is_named_with_its_reason(chromium: Chromium, tmp_path: Path) -> None:
    with page(chromium, tmp_path) as (browser, installation):
        with installation.store.write() as txn:
            why = {TOTALS.fingerprint: "ValueError: no such number"}
            txn.put_ledger(txn.ledger.quarantine("speed", installation.speed, why, 1.5))
        browser.show("views")
        browser.until("() => document.getElementById('waiting').textContent.includes('no such number')")
        assert card(browser, "revenue").is_visible()


def test_a_server_that_is_away_is_told_and_found_again(chromium: Chromium, tmp_path: Path) -> None:
    with LmdbStore.open(tmp_path, create=True) as store, Reader(tmp_path) as reader, ExitStack() as stack:
        installed(store, 60)
        with running(create_app(reader)) as url:
            browser = stack.enter_context(opened(chromium, url, tmp_path))
            browser.show("views")
            card(browser, "totals").locator(".measure").select_option("items")
            drawn(browser, "totals", "items")
        browser.until("() => document.getElementById('state').textContent === 'no answer'")
        browser.page.locator("#error").wait_for(state="visible", timeout=PATIENCE)
        with running(create_app(reader), int(url.rpartition(":")[2])):
            browser.until("() => document.getElementById('state').textContent === 'not ready'")
            browser.page.locator("#error").wait_for(state="hidden", timeout=PATIENCE)
            assert card(browser, "totals").locator(".measure").input_value() == "items"
            browser.page.goto("about:blank")  # a page that asks keeps its server


def test_a_token_is_asked_for_once_and_can_be_given_later(chromium: Chromium, tmp_path: Path) -> None:
    token, _ = TokenFile(tmp_path / "tokens.json").create("reader", "reader")
    with page(chromium, tmp_path) as (browser, _):
        browser.page.goto(f"{browser.url}/#views")
        dialog = browser.page.locator("#token")
        dialog.wait_for(state="visible", timeout=PATIENCE)
        browser.page.keyboard.press("Escape")
        dialog.wait_for(state="hidden", timeout=PATIENCE)
        looks(browser, "/v1/")
        assert not dialog.is_visible()
        assert "asks for a token" in browser.page.locator("#error").inner_text()
        browser.page.locator("#other-token").click()
        dialog.locator("input").fill("no “token”")
        browser.page.keyboard.press("Enter")
        assert dialog.is_visible(), "a header cannot carry it"
        dialog.locator("input").fill(token)
        browser.page.keyboard.press("Enter")
        drawn(browser, "everything", "lines")
        assert browser.page.locator("#state").inner_text() == "this token sees views alone"
        assert not browser.page.locator("#error").is_visible()
        assert browser.page.locator("nav a:visible").all_inner_texts() == ["Views"]
