"""Every command and every sample of the README runs as it stands there, in a folder as its reader has it."""

from __future__ import annotations

import ast
import csv
import gzip
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from browser import CHROMIUM, SERIES, browsing
from command import START, processes_of
from installed import wait_for

import tideline
from tideline.runtime.broker import Broker
from tideline.runtime.home import Home

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
METRO = Path(__file__).parents[3] / "shared" / "data" / "metro_traffic.csv.gz"
FENCE = re.compile(r"^```([\w-]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "TIDELINE_KAFKA_PORT": "auto",
    "TIDELINE_SERVE_PORT": "auto",
}
FIRST, USING, PYTHON, HTTP, JOBS = (
    "## First minutes with your own events",
    "## Using it",
    "### In Python",
    "### Over HTTP",
    "### As Spark jobs",
)
WHILE_UP = {
    "plan": ["plan --catalog retail.py"],
    "check": ["check --catalog retail.py"],
    "sql": ["""sql 'SELECT "Country", sum(lines) AS lines FROM revenue GROUP BY 1'"""],
    "export": ["export revenue --into revenue.parquet --format parquet"],
    "diff": ["diff revenue@{fingerprint} revenue"],
    "status": ["status"],
    "views": ["views"],
    "describe": ["describe revenue"],
    "dead-letters": ["dead-letters list"],
    "spark-conf": ["spark-conf"],
}
"""What the table of commands leaves open, on an installation that is up."""
ALONE = {
    "batch": ["batch {at}"],
    "recover": ["recover {at}"],
    "erase": ["erase --source retail --key CustomerID=17850 {at}"],
    "rebuild": ["rebuild --catalog retail.py {at}"],
    "token": ["token create reader", "token list", "token revoke reader"],
}
"""The same with the layers down; `at` says where Kafka is."""
ELSEWHERE = {"demo", "init", "up", "apply", "produce", "query", "verify", "serve", "speed", "submit"}
"""Those of the tests below."""


def part(heading: str) -> str:
    """What stands under a heading."""
    return re.split(r"^##+ ", README.partition(f"\n{heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def commands(text: str) -> list[str]:
    """The lines of its blocks that are typed."""
    lines = [line for language, body in FENCE.findall(text) if not language for line in body.splitlines()]
    return [line.removeprefix("$ ") for line in lines if re.match(r"(\$ |tideline |cd )", line)]


def sample(text: str, language: str) -> str:
    (body,) = [body for found, body in FENCE.findall(text) if found == language]
    return str(body)


def run(line: str, folder: Path) -> str:
    """What a command writes; it ends well."""
    done = subprocess.run(
        ["bash", "-c", line], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, (line, done.stdout, done.stderr)
    return done.stdout


@contextmanager
def running(line: str, folder: Path, ready: Callable[[], object]) -> Iterator[None]:
    """A command that goes on until it is told to stop."""
    said = folder / f"{abs(hash(line))}.said"
    with said.open("w") as out:
        process = subprocess.Popen(
            ["bash", "-c", line], cwd=folder, env=ENVIRONMENT, stdout=out, stderr=out, start_new_session=True
        )

    def is_ready() -> bool:
        assert process.poll() is None, said.read_text("utf-8")
        return bool(ready())

    try:
        wait_for(is_ready, line, START)
        yield
        assert process.poll() is None, said.read_text("utf-8")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(120)


@contextmanager
def used(folder: Path) -> Iterator[Path]:
    """A folder of which no process is left."""
    try:
        yield folder
        wait_for(lambda: not processes_of(folder), "every process is gone", 30)
    finally:
        for pid in processes_of(folder):
            os.kill(pid, signal.SIGKILL)


def is_ready(folder: Path, *layers: str) -> Callable[[], bool]:
    home = Home(folder / ".tideline")
    return lambda: all((home.read_status(layer) or {}).get("ready") for layer in layers)


def address(folder: Path) -> str:
    return str((Home(folder / ".tideline").read_status("serve") or {})["url"])


def write(path: Path, names: Sequence[str], rows: Iterator[Sequence[object]]) -> None:
    with gzip.open(path, "wt", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(rows)


def write_retail(folder: Path) -> None:
    """The README's catalog, and lines of a shop in the columns of Online Retail."""
    (folder / "retail.py").write_text(sample(README.partition("\n## ")[0], "python"), "utf-8")
    dice, begin = random.Random(7), datetime(2010, 12, 1, 8)
    countries = ("United Kingdom", "Netherlands", "EIRE", "France")
    columns = ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country")
    rows = (
        (
            536365 + number // 5,
            f"8{dice.randrange(100)}A",
            "LANTERN",
            dice.choice([-1, 1, 2, 6]),
            begin + timedelta(minutes=7 * number),
            f"{dice.randrange(100, 900) / 100:.2f}",
            f"{17850 + dice.randrange(50)}.0",
            dice.choice(countries),
        )
        for number in range(2_000)
    )
    write(folder / "online_retail.csv.gz", columns, rows)


def write_traffic(folder: Path) -> None:
    """The file that the README names, or hours of a road in its columns where the data is not there."""
    if METRO.exists():
        shutil.copy(METRO, folder)
        return
    dice, begin = random.Random(8), datetime(2012, 10, 2, 9)
    columns = ("holiday", "temp", "rain_1h", "weather_main", "date_time", "traffic_volume")
    rows = (
        (
            "None",
            f"{280 + 10 * dice.random():.2f}",
            0.0,
            dice.choice(["Clouds", "Clear", "Rain"]),
            begin + timedelta(hours=number),
            dice.randrange(300, 6_000),
        )
        for number in range(500)
    )
    write(folder / "metro_traffic.csv.gz", columns, rows)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of somebody who has followed "Using it"."""
    folder = tmp_path_factory.mktemp("using")
    write_retail(folder)
    up, produce, *asked = commands(part(USING))
    with used(folder), running(up, folder, is_ready(folder, "speed", "serve")):
        assert "sent 2000 events" in run(produce, folder)
        with tideline.open(folder / ".tideline") as reader:
            wait_for(lambda: sum(reader.view("revenue").get().proof["events"].values()) == 2_000, "all is counted", 120)
        query, verify = (run(line, folder) for line in asked)
        assert query.startswith("Country")
        assert "equal a recompute from the log" in verify
        yield folder


def test_every_command_of_the_table_runs_here() -> None:
    listed = re.findall(r"^\| `tideline ([a-z-]+)", README, re.MULTILINE)
    assert sorted(listed) == sorted({*WHILE_UP, *ALONE, *ELSEWHERE})


def test_the_first_screens_query_shows_its_proof(shop: Path) -> None:
    (line,) = [line for line in commands(README.partition("\n## ")[0]) if line.startswith("tideline")]
    found, shown = run(line, shop), README.partition(f"$ {line}\n")[2]
    assert found.splitlines()[0].split() == shown.splitlines()[0].split()
    assert len(found.partition("\n\n")[0].splitlines()) == 5
    heads = [text.split()[0] for text in shown.partition("\n\n")[2].partition("```")[0].splitlines()]
    assert (
        [text.split()[0] for text in found.partition("\n\n")[2].splitlines()]
        == heads
        == [*"proof events exact more".split()]
    )


def test_the_python_sample_prints_rows_and_who_counted_them(shop: Path) -> None:
    (shop / "sample.py").write_text(sample(part(PYTHON), "python"), "utf-8")
    head, *rows, events = run("python sample.py", shop).splitlines()
    assert head.split() == sample(part(PYTHON), "").splitlines()[0].split()
    assert len(rows) == 3
    assert sum(ast.literal_eval(events).values()) == 2_000


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_curl_gets_what_is_shown(shop: Path) -> None:
    (line,) = re.findall(r"^\$ (curl .*)$", part(HTTP), re.MULTILINE)
    found = json.loads(run(line.replace("curl ", "curl -sS ").replace("localhost:8400", address(shop)), shop))
    shown = json.loads(sample(part(HTTP), "").partition("\n")[2])
    assert _shape(found) == _shape(shown)


def _shape(answer: Any) -> Any:
    """Names of fields; offsets and numbers are others."""
    row, proof = answer["rows"][0], answer["proof"]
    sides = {tuple(side) for side in row["parts"].values() if side}  # one has nothing yet
    return [*answer], [*row], [*row["parts"]], sides, [*proof], [*proof["cut"]]


@pytest.mark.parametrize("name", WHILE_UP)
def test_a_command_of_the_table_runs_while_all_is_up(shop: Path, name: str) -> None:
    fingerprint = httpx.get(f"{address(shop)}/v1/views/revenue").json()["fingerprint"]
    for words in WHILE_UP[name]:
        assert run(f"tideline {words.replace('{fingerprint}', fingerprint)}", shop)


def test_the_first_minutes_lead_to_a_chart(tmp_path: Path) -> None:
    write_traffic(tmp_path)
    init, up, produce = commands(part(FIRST))
    run(init, tmp_path)
    folder = tmp_path / "traffic"
    with used(tmp_path), running(up, tmp_path, is_ready(folder, "speed", "serve")):
        run(produce, folder)
        for view in httpx.get(f"{address(folder)}/v1/views").json()["views"]:
            rows = f"{address(folder)}/v1/views/{view['name']}/rows?limit=1"
            wait_for(lambda rows=rows: httpx.get(rows).json()["rows"], "the view answers", 60)
        if CHROMIUM is None:
            return
        pictures = Path(os.environ.get("PICTURES") or tmp_path / "pictures")
        with browsing(address(folder), pictures) as browser:
            browser.show("views")
            browser.until("() => document.querySelectorAll('.card canvas').length > 1")
            for view in httpx.get(f"{browser.url}/v1/views").json()["views"]:
                wait_for(lambda name=view["name"]: _drawn(browser.page.evaluate(SERIES, name)), "a chart", 60)
            browser.picture("first-chart")
            assert browser.complaints == []


def _drawn(chart: Any) -> bool:
    return bool(chart) and any(value is not None for one in chart["series"] for value in one["data"])


def test_the_layers_run_as_spark_jobs_and_alone(tmp_path: Path) -> None:
    write_retail(tmp_path)
    home = tmp_path / ".tideline"
    with used(tmp_path), Broker(Home(tmp_path / "broker").prepare()) as broker:
        at = f"--bootstrap-server {broker.bootstrap}"
        apply, speed, batch, serve = (line.replace("kafka:9092", broker.bootstrap) for line in commands(part(JOBS)))
        run(apply, tmp_path)
        run(f"tideline produce online_retail.csv.gz --source retail --row-id line_id {at}", tmp_path)

        def published() -> int:
            with tideline.open(home) as reader:
                return reader.ledger().version.id

        with (
            running(speed, tmp_path, is_ready(tmp_path, "speed")),
            running(batch, tmp_path, published),
            running(serve, tmp_path, is_ready(tmp_path, "serve")),
        ):
            assert httpx.get(f"{address(tmp_path)}/v1/views/revenue/rows").json()["rows"]
        with running(f"tideline speed {at}", tmp_path, is_ready(tmp_path, "speed")):
            pass
        for words in (words for lines in ALONE.values() for words in lines):
            run(f"tideline {words.replace('{at}', at)}", tmp_path)
        assert "equal a recompute" in run(f"tideline verify {at}", tmp_path)


def test_the_demo_shows_all_of_it_and_verifies(tmp_path: Path) -> None:
    assert "scripts/demo " in README
    assert "equal" in run("tideline demo --check", tmp_path)
