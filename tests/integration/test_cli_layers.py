"""The whole installation by its commands: `up`, and what its users do while it runs."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import urlopen

import psutil
import pytest
from command import Up, processes_of, up
from exposition import parse
from installed import wait_for

import tideline
from serving_layer.metrics import METRICS
from tideline.cut import Cut
from tideline.runtime.groups import GroupClient
from tideline.runtime.ports import free_port
from tideline.simulate import shop_catalog

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
PROMETHEUS = shutil.which("prometheus")
BOUND = 300.0  # seconds for a layer to start and catch up on a busy machine
FIELDS = {
    *("ready", "kafka", "api", "committed", "archived", "published", "lag_events", "generations"),
    *("batch_version", "last_batch", "dead_letters", "duplicates", "retention_margin"),
}
KINDS = ("browse", "cart", "purchase")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """The shop's installation, with a batch run every ten seconds, and its logs as JSON."""
    folder = tmp_path_factory.mktemp("up")
    (folder / "conf.toml").write_text('[log]\nformat = "json"\n')
    options = ("--every", "10s", "--config", str(folder / "conf.toml"))
    with up(folder, Path(shop_catalog.__file__), *options) as running:
        yield running


def write_events(path: Path, count: int, first: int) -> list[dict[str, Any]]:
    dice = random.Random(first)
    now = datetime.now(timezone.utc)
    events = [
        {
            "event_id": f"e{first + number}",
            "kind": dice.choice(KINDS),
            "customer": f"c{dice.randrange(20)}",
            "product": f"p{dice.randrange(5)}",
            "category": dice.choice(["tea", "cups"]),
            "quantity": dice.randrange(1, 4),
            "price": f"{dice.randrange(100, 900) / 100:.2f}",
            "country": dice.choice(["France", "Norway"]),
            "at": (now - timedelta(seconds=dice.randrange(3600))).isoformat(),
        }
        for number in range(count)
    ]
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    return events


@pytest.fixture(scope="module")
def sent() -> list[dict[str, Any]]:
    """Every event that the tests of this file sent so far."""
    return []


def send(shop: Up, sent: list[dict[str, Any]], folder: Path, count: int, *options: str) -> Any:
    file = folder / f"events-{len(sent)}.jsonl"
    sent += write_events(file, count, len(sent))
    done = shop.run("produce", file, "--source", "shop", "-o", "json", *options)
    assert done.code == 0, done.err
    return done.json


def by_kind(shop: Up) -> dict[str, int]:
    """Events by kind, as `tideline query` says over all of the log."""
    answer = shop.run("query", "funnel", "--window", "all", "--measures", "by_kind", "-o", "json").json
    found: dict[str, int] = answer["rows"][0]["by_kind"] if answer["rows"] else {}
    return found


def expected(sent: list[dict[str, Any]]) -> dict[str, int]:
    return {kind: sum(event["kind"] == kind for event in sent) for kind in KINDS}


def caught_up(shop: Up) -> bool:
    status = shop.status()
    return bool(status["ready"]) and status["lag_events"] == 0


def test_it_answers_what_was_sent_and_says_how_it_is(shop: Up, sent: list[Any], tmp_path: Path) -> None:
    report = send(shop, sent, tmp_path, 300, "--duplicate", "0.1", "--shuffle", "3")
    assert report["sent"] == 300
    cut = ",".join(f"{partition}={offset}" for partition, offset in report["end"]["shop"].items())
    answer = shop.run(
        "query", "products", "category=tea", "--at-least", f"shop:{cut}", "--timeout", str(BOUND), "-o", "json"
    ).json
    tea = [event for event in sent if event["category"] == "tea"]
    assert sum(row["browsed"] for row in answer["rows"]) == sum(event["kind"] == "browse" for event in tea)
    assert answer["proof"]["cut"]["shop"] == {str(p): offset for p, offset in report["end"]["shop"].items()}
    wait_for(lambda: shop.status()["batch_version"] >= 1, "a batch run has published", BOUND)
    assert by_kind(shop) == expected(sent)
    status = shop.status()
    assert status.keys() >= FIELDS
    assert status["ready"] is True
    assert status["duplicates"] == {"shop": report["duplicates"]}
    assert status["last_batch"].keys() >= {"steps", "seconds", "rows", "mode"}
    assert [step["name"] for step in status["last_batch"]["steps"]][:2] == ["seal", "archive"]
    assert status["kafka"]["bootstrap"].startswith("127.0.0.1:") or status["kafka"]["bootstrap"].startswith(
        "localhost:"
    )
    with urlopen(f"{status['api']}/v1/views", timeout=10) as answer:
        assert {view["name"] for view in json.load(answer)["views"]} == {"sales", "products", "funnel"}
    table = shop.run("status")
    assert table.code == 0, table.err
    assert "last batch" in table.out


def test_prometheus_and_lag_tools_see_the_same(shop: Up, sent: list[Any]) -> None:
    status = wait_for(lambda: caught_up(shop) and shop.status(), "nothing moves", BOUND)
    with urlopen(f"{status['api']}/metrics", timeout=10) as answer:
        found = parse(answer.read().decode())
    absent = {"tideline_batch_error", "tideline_dead_letters_total", "tideline_lost_offsets"}  # none yet
    assert set(found) == {metric.name for metric in METRICS} - absent
    assert sum(found["tideline_events_total"].samples.values()) == len(sent)
    assert sum(found["tideline_lag_events"].samples.values()) == found["tideline_lag_seconds"].value(topic="shop") == 0
    for layer in ("speed", "batch", "serve"):
        assert found["tideline_layer_up"].value(layer=layer) == 1
    assert found["tideline_layer_ready"].value(layer="speed") == found["tideline_kafka_up"].value() == 1
    steps = {dict(labels)["step"] for _, labels in found["tideline_batch_step_duration_seconds"].samples}
    assert steps == {"seal", "archive", "compute", "publish", "expire"}
    assert found["tideline_batch_interval_seconds"].value() == 10
    with tideline.open(shop.home) as reader, GroupClient(status["kafka"]["bootstrap"]) as client:
        group = f"tideline-{reader.ledger().installation[:8]}"
        wait_for(lambda: client.committed(group) == reader.ledger().committed, "the group is at the cut", 30)


@pytest.mark.skipif(PROMETHEUS is None, reason="there is no Prometheus (apt-get install prometheus)")
def test_a_prometheus_scrapes_it_and_knows_what_rules_and_panels_ask_for(
    shop: Up, sent: list[Any], tmp_path: Path
) -> None:
    status = wait_for(lambda: caught_up(shop) and shop.status(), "nothing moves", BOUND)
    port = free_port()
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(ROOT / "conf" / "alerts.yml")],
        "scrape_configs": [{"job_name": "tideline", "static_configs": [{"targets": [urlsplit(status["api"]).netloc]}]}],
    }
    (tmp_path / "prometheus.yml").write_text(json.dumps(config))  # which is YAML too
    words = (f"--config.file={tmp_path / 'prometheus.yml'}", f"--storage.tsdb.path={tmp_path / 'data'}")
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(
            [str(PROMETHEUS), *words, f"--web.listen-address=127.0.0.1:{port}"], stdout=said, stderr=said
        )

    def ask(path: str, **params: str) -> Any:
        with urlopen(f"http://127.0.0.1:{port}/api/v1/{path}?{urlencode(params)}", timeout=10) as answer:
            found = json.load(answer)
        assert found["status"] == "success"
        return found["data"]

    def value(query: str) -> float | None:
        with contextlib.suppress(URLError):
            for row in ask("query", query=query)["result"]:
                return float(row["value"][1])
        return None

    try:
        wait_for(lambda: value("sum(tideline_events_total)") == len(sent), "it has scraped", 60)
        assert value('up{job="tideline"}') == 1
        panels = json.loads((ROOT / "conf" / "grafana-dashboard.json").read_text("utf-8"))["panels"]
        for target in (target for panel in panels for target in panel["targets"]):
            ask("query", query=target["expr"])
        rules = wait_for(lambda: all_evaluated(ask("rules")), "the rules are evaluated", 60)
        assert {rule["health"] for rule in rules} == {"ok"}
        assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []
    finally:
        process.terminate()
        process.wait(30)


def all_evaluated(data: Any) -> list[Any]:
    rules = [rule for group in data["groups"] for rule in group["rules"]]
    return rules if all(rule["health"] != "unknown" for rule in rules) else []


def test_a_speed_layer_that_is_killed_in_mid_stream_changes_no_answer(
    shop: Up, sent: list[Any], tmp_path: Path
) -> None:
    for _ in range(2):
        pid = wait_for(lambda: (shop.status()["layers"]["speed"] or {}).get("pid"), "the speed layer runs")
        send(shop, sent, tmp_path, 200)
        os.kill(pid, signal.SIGKILL)
        send(shop, sent, tmp_path, 50)
        wait_for(
            lambda pid=pid: caught_up(shop) and shop.status()["layers"]["speed"]["pid"] != pid,
            "another speed layer has caught up",
            BOUND,
        )
        assert by_kind(shop) == expected(sent)


def test_a_batch_run_gives_way_to_the_speed_layer(shop: Up) -> None:
    wait_for(lambda: shop.status()["batch_version"] >= 1, "the batch layer has started its JVM", BOUND)
    layers = shop.status()["layers"]
    for layer, nice in (("speed", 0), ("batch", 10)):
        process = psutil.Process(layers[layer]["pid"])
        found = [one.nice() for one in (process, *process.children())]
        assert len(found) > 1, "it and its JVM"
        assert set(found) == {min(19, os.nice(0) + nice)}, layer


def test_a_second_up_on_the_same_home_is_refused_in_one_line(shop: Up) -> None:
    catalog = Path(shop_catalog.__file__)
    refused = shop.run("up", "--catalog", catalog, "--ports", "auto")
    assert refused.code == 3
    assert str(shop.home) in refused.line
    assert str(shop.process.pid) in refused.line
    busy = shop.run("speed")
    assert busy.code == 3
    assert "speed" in busy.line
    assert shop.process.poll() is None


def test_wrong_use_of_a_running_installation_is_one_line(shop: Up, tmp_path: Path) -> None:
    write_events(tmp_path / "events.jsonl", 1, 0)
    cases = {
        ("produce", tmp_path / "events.jsonl", "--source", "nobody"): "nobody",
        ("produce", tmp_path / "missing.jsonl", "--source", "shop"): "missing.jsonl",
        ("query", "nothing"): "nothing",
        ("query", "sales", "land=France"): "land",
        ("query", "sales", "--window", "90s"): "90s",
        ("dead-letters", "list", "--source", "nobody"): "nobody",
    }
    for words, named in cases.items():
        done = shop.run(*words)
        assert (done.code, named in done.line) == (2, True), (words, done.err)


def test_it_stops_on_sigterm_and_leaves_no_process(shop: Up, sent: list[Any]) -> None:
    assert by_kind(shop) == expected(sent)
    assert len(processes_of(shop.home)) >= 4
    assert shop.stop() == 0
    wait_for(lambda: not processes_of(shop.home), "every process is gone", 20)
    assert by_kind(shop) == expected(sent), "the store answers without them"
    status = shop.status()
    assert (status["ready"], status["api"]) == (False, None)


STEPS = ("seal", "archive", "compute", "publish", "expire")


def test_each_line_of_the_logs_is_an_object_that_says_where_the_log_stands(shop: Up) -> None:
    """But for what a JVM prints past its logging: a warning as it starts, the end of a thread."""
    lines: dict[str, list[Any]] = {}
    for layer in ("speed", "batch", "serve"):
        text = (shop.home / "run" / "logs" / f"{layer}.log").read_text("utf-8")
        lines[layer] = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        assert all(line.keys() >= {"time", "level", "logger", "message"} for line in lines[layer])
        rest = [line for line in text.splitlines() if not line.startswith("{")]
        own = ("tideline", "speed_layer", "batch_layer", "serving_layer")
        assert not [line for line in rest if any(name in line for name in own)], layer
    commits = [line for line in lines["speed"] if line["message"] == "committed"]
    starts = [line for line in lines["speed"] if "fence" in line]
    assert starts
    assert commits
    for line in (*commits, *starts):
        assert Cut.parse(line["cut"]).topics() == ("shop",)
        assert line.keys() >= {"layer", "generation"}
    steps = [line for line in lines["batch"] if line.get("step") in STEPS and "seconds" in line]
    assert {line["step"] for line in steps} == set(STEPS)
    for line in steps:
        assert line.keys() >= {"cut", "generation", "version", "layer"}
        assert Cut.parse(line["cut"]).topics() == ("shop",)
    versions = [line["version"] for line in steps if line["step"] == "publish"]
    assert versions == list(range(1, len(versions) + 1))


def test_single_runs_and_verify_start_the_broker_of_an_installation_that_is_stopped(shop: Up, sent: list[Any]) -> None:
    full = shop.run("batch", "--full", "-o", "json", timeout=BOUND)
    assert full.code == 0, full.err
    assert full.json["mode"] == "full"
    verified = shop.run("verify", "--versions", "-o", "json", timeout=BOUND)
    assert verified.code == 0, verified.out + verified.err
    assert verified.json["logs"][0]["events"] == len(sent)
    views = {view["view"] for view in verified.json["views"]}
    assert views > {"sales", "products", "funnel", f"sales@{full.json['version']}"}
    assert not processes_of(shop.home)
    shutil.rmtree(shop.home / "run")  # as after a backup
    again = shop.run("batch", "-o", "json", timeout=BOUND)
    assert (again.code, again.json) == (0, None), again.err
