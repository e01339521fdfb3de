"""The page in a real Chromium, on a whole installation under traffic."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from browser import PATIENCE, SERIES, Browser, browsing, needs_chromium
from command import Up, argv, up
from installed import wait_for

from tideline.simulate import shop_catalog

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    needs_chromium,
]
ROOT = Path(__file__).parents[2]
RETAIL = ROOT.parent / "shared" / "data" / "online_retail.csv.gz"
TEXTS = ("string", "timestamp", "date", "boolean", "binary")  # of which there are no charts
PARTS = ("views", "pipeline", "hand-offs", "dead-letters", "verify")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Up, str]]:
    """An installation and its source: a year of retail, or the demo's shop where the data is not there."""
    real = RETAIL.exists()
    catalog = ROOT / "examples" / "retail.py" if real else Path(shop_catalog.__file__)
    with up(tmp_path_factory.mktemp("page"), catalog, "--every", "10s") as running:
        source = "retail" if real else "shop"
        words = ("produce", str(RETAIL), "--source", source, "--row-id", "line_id", "--rate", "400", "--shuffle", "3")
        traffic = None
        try:
            if real:
                command = argv(words[0], "--home", str(running.home), *words[1:])
                traffic = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            else:
                traffic = _shop_traffic(running)
            yield running, source
        finally:
            if traffic is not None:
                traffic.send_signal(signal.SIGTERM)
                traffic.wait(60)


def _shop_traffic(running: Up) -> subprocess.Popen[bytes]:
    code = (
        "import datetime as dt, sys, threading; from tideline.simulate.shop import Shop, run_shop; "
        "shop = Shop(dt.datetime.now(dt.timezone.utc), rate=200, broken=0); "
        "run_shop(shop, 'shop', sys.argv[1], stop=threading.Event())"
    )
    bootstrap = running.run("status", "-o", "json").json["kafka"]["bootstrap"]
    return subprocess.Popen([argv()[0], "-c", code, bootstrap])


@pytest.fixture(scope="module")
def browser(shop: tuple[Up, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    url = str(shop[0].run("status", "-o", "json").json["api"])
    pictures = Path(os.environ.get("PICTURES") or tmp_path_factory.mktemp("pictures"))
    with browsing(url, pictures) as found:
        yield found


@pytest.fixture(autouse=True)
def _nothing_to_complain_of(browser: Browser) -> Iterator[None]:
    browser.page.set_viewport_size({"width": 1280, "height": 900})
    yield
    assert browser.complaints == []
    assert {url for url in browser.asked if not url.startswith((browser.url, "data:", "blob:"))} == set()


def views(browser: Browser) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.get(f"{browser.url}/v1/views").json()["views"]
    return found


def test_every_measure_of_every_view_is_drawn_and_every_view_in_every_way(browser: Browser) -> None:
    browser.show("views")
    browser.until("() => document.querySelectorAll('.card').length > 0")
    browser.until("() => /[1-9][0-9]* events in batch/.test(document.querySelector('.card .proof').textContent)")
    for view in views(browser):
        card = browser.page.locator(f'.card[data-view="{view["name"]}"]')
        card.scroll_into_view_if_needed()
        kinds = [option.get_attribute("value") for option in card.locator(".kind option").all()]
        assert kinds[-1] == "table"
        for number, measure in enumerate([*view["measures"], *view["answers"]]):
            card.locator(".measure").select_option(measure)
            for kind in kinds if number == 0 else kinds[:1]:
                card.locator(".kind").select_option(kind)
                listed = kind == "table" or view["measures"].get(measure, {}).get("type") in TEXTS
                card.locator(".scroll" if listed else ".chart").wait_for(state="visible", timeout=PATIENCE)
                if listed:
                    card.locator("tbody tr").first.wait_for(timeout=PATIENCE)
                    continue
                wanted = [view["name"], f"{view['name']}, {measure}:"]
                browser.until(
                    '([view, text]) => document.querySelector(`[data-view="${view}"] .chart`)'
                    ".getAttribute('aria-label').startsWith(text)",
                    wanted,
                )
                drawn = browser.page.evaluate(SERIES, view["name"])
                assert drawn["series"], (view["name"], measure, kind)
                assert any(value is not None for one in drawn["series"] for value in one["data"]), (measure, kind)
    browser.page.evaluate("scrollTo(0, 0)")


def test_bars_show_both_sides_and_the_tideline_between_them(browser: Browser, shop: tuple[Up, str]) -> None:
    view = next(
        view for view in views(browser) if view["bucket"] and "count" in {m["kind"] for m in view["measures"].values()}
    )
    measure = next(name for name, told in view["measures"].items() if told["kind"] == "count")
    browser.page.reload()
    browser.show("views")
    card = browser.page.locator(f'.card[data-view="{view["name"]}"]')
    card.scroll_into_view_if_needed()
    card.locator(".measure").select_option(measure)
    card.locator(".kind").select_option("time")

    def sums() -> bool:
        """Whether the last bars are those of the API's answer; both move, so that they meet at a quiet moment."""
        drawn = browser.page.evaluate(SERIES, view["name"])
        if not drawn or [one["name"] for one in drawn["series"]] != ["batch", "speed", "tideline"]:
            return False
        there = [place for place, label in enumerate(drawn["labels"]) if label != "⋯"]  # where times without rows lie
        batch, speed, tideline = ([one["data"][place] for place in there] for one in drawn["series"])
        assert [value or 0 for value in batch] == tideline
        query = {"view": view["name"], "group_by": [], "order": ["-bucket"], "limit": 48, "measures": [measure]}
        rows = httpx.post(f"{browser.url}/v1/query", json={"queries": [query]}).json()["results"][0]["rows"]
        return [(a or 0) + (b or 0) for a, b in zip(batch, speed, strict=True)] == [row[measure] for row in rows[::-1]]

    wait_for(sums, "the chart shows what the API answers", 60)


def test_the_pipeline_shows_what_flows(browser: Browser, shop: tuple[Up, str]) -> None:
    browser.show("pipeline")
    browser.until("() => /[1-9]/.test(document.querySelector('#flows td:nth-child(2)')?.textContent || '')")
    drawn = browser.page.evaluate(
        "() => echarts.getInstanceByDom(document.getElementById('graph')).getOption().series[0]"
    )
    names = {node["name"] for node in drawn["data"]}
    assert {f"source {shop[1]}", "speed", "batch", "serve"} < names
    assert {f"view {view['name']}" for view in views(browser)} < names
    told = [link["label"]["formatter"] for link in drawn["links"] if link["source"] == f"source {shop[1]}"]
    assert any("/s, lag " in text for text in told)
    assert any("to archive" in text for text in told)
    browser.picture("pipeline")


def test_a_hand_off_is_seen_while_it_happens(browser: Browser) -> None:
    browser.show("hand-offs")
    browser.until("() => document.getElementById('run').textContent.startsWith('A batch run works: ')")
    assert browser.page.locator("#working").is_visible()
    before = httpx.get(f"{browser.url}/v1/status").json()["batch_version"]
    browser.picture("hand-off")
    text = browser.until(
        "(before) => { const found = /published version (\\d+)/.exec(document.getElementById('run').textContent);"
        " return found && Number(found[1]) > before && found[0]; }",
        before,
    )
    labels = browser.page.evaluate(
        "() => echarts.getInstanceByDom(document.getElementById('timeline')).getOption().yAxis[0].data"
    )
    assert any(label.startswith(f"version {text.split()[-1]}\n") for label in labels)


def test_a_dead_letter_is_opened(browser: Browser, shop: tuple[Up, str]) -> None:
    from tideline.eventfiles import Event
    from tideline.produce import produce_raw
    from tideline.runtime.topics import forget

    running, source = shop
    status = running.run("status", "-o", "json").json
    produce_raw([Event(None, b"{not <b>json</b>\x00")], source, status["kafka"]["bootstrap"])
    forget(status["kafka"]["bootstrap"])  # that broker ends before this process
    wait_for(lambda: bool(httpx.get(f"{browser.url}/v1/dead-letters").json()["dead_letters"]), "it is listed", 60)
    browser.show("dead-letters")
    browser.page.get_by_role("button", name="look").click()
    browser.page.get_by_role("button", name=f"open {source}").first.click()
    letter = browser.page.locator("#letter")
    letter.wait_for(state="visible", timeout=PATIENCE)
    assert letter.locator(".reason").inner_text() == "not JSON"
    assert letter.locator(".text").text_content() == "{not <b>json</b>\x00"
    assert "7b 6e 6f 74 20 3c 62 3e" in letter.locator(".bytes").inner_text()
    browser.picture("dead-letter")


def test_verify_is_pressed(browser: Browser) -> None:
    browser.show("verify")
    view = views(browser)[0]["name"]
    browser.until(
        "(view) => [...document.getElementById('verify-view').options].some((one) => one.value === view)", view
    )
    browser.page.locator("#verify-view").select_option(view)
    browser.page.get_by_role("button", name="verify").click()
    browser.page.locator("#verdict.good").wait_for(timeout=PATIENCE)
    assert browser.page.locator("#verdict").inner_text().startswith("Equal: all ")
    assert browser.page.locator("#verified tbody tr td").first.inner_text() == view
    browser.picture("verify")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_part_can_be_used_by_everybody(browser: Browser, theme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    for part in PARTS:
        browser.show(part)
        browser.theme(theme)
        browser.page.wait_for_timeout(300)
        found = Axe().run(browser.page).response["violations"]
        serious = [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]
        assert serious == [], part
    browser.show("views")
    browser.until("() => document.querySelectorAll('.card canvas').length > 1")
    first = browser.page.locator(".card").first
    if "units" in first.locator(".measure").inner_text():
        first.locator(".measure").select_option("units")
        browser.until("() => document.querySelector('.card .chart').getAttribute('aria-label').includes(', units:')")
    browser.page.evaluate("scrollTo(0, 0)")
    browser.picture(f"views-{theme}")


def test_it_fits_a_phone(browser: Browser) -> None:
    browser.page.set_viewport_size({"width": 360, "height": 740})
    for part in PARTS:
        browser.show(part)
        browser.page.wait_for_timeout(300)
        assert browser.page.evaluate("document.documentElement.scrollWidth") <= 360, part
        if part in ("views", "pipeline"):
            browser.picture(f"phone-{part}")


def test_it_is_used_by_keyboard(browser: Browser) -> None:
    browser.show("views")
    browser.page.locator("#theme").focus()
    browser.page.keyboard.press("Tab")
    browser.page.keyboard.press("Tab")
    assert browser.page.evaluate("document.activeElement.textContent") == "Pipeline"
    browser.page.keyboard.press("Enter")
    browser.page.locator("#pipeline").wait_for(state="visible", timeout=PATIENCE)
    assert browser.page.locator('nav a[aria-current="page"]').inner_text() == "Pipeline"
