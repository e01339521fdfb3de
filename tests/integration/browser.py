"""A real Chromium with the page of an installation, and all that it complained of."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium (apt-get install chromium)")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
PATIENCE = 120_000  # milliseconds on a busy machine
SERIES = """(view) => {
    const place = document.querySelector(`[data-view="${view}"] .chart`), chart = echarts.getInstanceByDom(place);
    const option = chart && chart.getOption();
    return option && { series: option.series.map((one) => ({ name: one.name, type: one.type, data: one.data })),
                       labels: [...option.xAxis, ...option.yAxis].find((axis) => axis.type === "category").data };
}"""


class Browser:
    """The page, all that it complained of, and where pictures go."""

    def __init__(self, page: Page, url: str, pictures: Path) -> None:
        self.page = page
        self.url = url
        self.pictures = pictures
        self.complaints: list[str] = []
        self.asked: set[str] = set()
        page.on(
            "console", lambda line: self.complaints.append(line.text) if line.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.asked.add(request.url))

    def show(self, part: str) -> None:
        self.page.goto(f"{self.url}/#{part}")
        self.page.locator(f"#{part}").wait_for(state="visible", timeout=PATIENCE)

    def until(self, condition: str, argument: Any = None) -> Any:
        """What a JavaScript function returns, once that is true."""
        return self.page.wait_for_function(condition, arg=argument, timeout=PATIENCE).json_value()

    def picture(self, name: str) -> None:
        self.pictures.mkdir(parents=True, exist_ok=True)
        self.page.wait_for_timeout(400)  # charts have moved to their places
        self.page.screenshot(path=self.pictures / f"{name}.png")

    def theme(self, name: str) -> None:
        self.page.locator("#theme").select_option(name)


@contextmanager
def launched() -> Iterator[Chromium]:
    """A Chromium, of which there is one at a time."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield chromium
        finally:
            chromium.close()


@contextmanager
def opened(chromium: Chromium, url: str, pictures: Path) -> Iterator[Browser]:
    """The page at `url`, in light colours, as somebody sees it who comes for the first time."""
    page = chromium.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
    try:
        yield Browser(page, url, pictures)
    finally:
        page.close()


@contextmanager
def browsing(url: str, pictures: Path) -> Iterator[Browser]:
    """A browser on the page at `url`."""
    with launched() as chromium, opened(chromium, url, pictures) as found:
        yield found
