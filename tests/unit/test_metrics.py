"""`GET /metrics`: Prometheus' own format, the ledger's own counts, and alert rules that name what there is."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from exposition import Family, parse
from serving import running
from serving_case import installed
from test_docs import read, rows

from serving_layer.app import create_app
from serving_layer.exposition import MEDIA_TYPE, Exposition, Metric
from serving_layer.kafka import Held, Seen
from serving_layer.metrics import METRICS
from serving_layer.reader import Reader
from tideline.cut import Cut
from tideline.runtime.home import Home
from tideline.runtime.ports import free_port
from tideline.stores.lmdb import LmdbStore

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

BY_NAME = {metric.name: metric for metric in METRICS}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """150 events, two versions, a speed layer 50 events beyond them, and a Kafka at which nothing listens."""
    folder = tmp_path_factory.mktemp("home")
    with LmdbStore.open(folder, create=True) as store:
        installed(store, 150)
        home = Home(folder).prepare()
        home.write_status("kafka", {"bootstrap": f"127.0.0.1:{free_port()}"})
        yield home


@pytest.fixture(scope="module")
def scrape(home: Home) -> dict[str, Family]:
    """What a scrape over HTTP says while Kafka is away."""
    with Reader(home) as reader, running(create_app(reader)) as url:
        began = time.monotonic()
        answer = httpx.get(f"{url}/metrics", timeout=30)
        assert time.monotonic() - began < 5
    assert (answer.status_code, answer.headers["content-type"]) == (200, MEDIA_TYPE)
    return parse(answer.text)


def test_counts_are_the_ledgers_by_source_and_partition(home: Home, scrape: dict[str, Family]) -> None:
    with Reader(home) as reader:
        ledger, status = reader.ledger(), reader.status(timeout=0.1)
    for partition, stats in ledger.log()["sales"].items():
        for name in ("records", "events", "duplicates"):
            found = scrape[f"tideline_{name}_total"].value(source="sales", partition=partition)
            assert found == getattr(stats, name)
    assert scrape["tideline_dead_letters_total"].value(source="sales", reason="BAD_JSON") == 3
    assert scrape["tideline_rejects_total"].value(view="revenue") == 3
    for name in ("committed", "archived", "published"):
        family = scrape[f"tideline_{name}_offset"]
        assert {("sales", p): o for p, o in status[name]["sales"].items()} == {
            (dict(labels)["topic"], dict(labels)["partition"]): value for (_, labels), value in family.samples.items()
        }
    records = [stats.records for stats in ledger.log()["sales"].values()]
    assert scrape["tideline_partition_skew_ratio"].value(source="sales") == max(records) * 2 / sum(records)
    assert scrape["tideline_published_version"].value() == status["batch_version"] == 2
    assert scrape["tideline_unpublished_offsets"].value() == status["unpublished_events"] == 50
    assert scrape["tideline_batch_step_duration_seconds"].value(step="archive") == 0.5
    assert scrape["tideline_last_publish_timestamp_seconds"].value() == 1_700_000_000


def test_without_kafka_it_says_so_and_what_it_knows(scrape: dict[str, Family]) -> None:
    assert scrape["tideline_kafka_up"].value() == 0
    assert not {"tideline_lag_events", "tideline_lag_seconds", "tideline_log_end_offset"} & set(scrape)
    assert scrape["tideline_committed_offset"].value(topic="sales", partition=0) > 0
    assert [scrape["tideline_layer_up"].value(layer=layer) for layer in ("speed", "batch", "serve")] == [0, 0, 0]
    assert scrape["tideline_store_map_bytes"].value() > scrape["tideline_store_used_bytes"].value() > 0
    assert scrape["tideline_disk_size_bytes"].value() > scrape["tideline_disk_free_bytes"].value() > 0


def test_layers_that_run_are_told_from_those_that_were(home: Home) -> None:
    note = {"ready": True, "every": 5.0, "runs": 3, "failures": 1, "condition": "CHECKSUM", "succeeded_at": 7.0}
    home.write_status("batch", note)
    home.write_status("speed", {"ready": False, "cycles": 4, "seconds": 1.5, "states": 9, "pid": 2**22 + 1})
    try:
        with Reader(home) as reader:
            found = parse(reader.metrics(timeout=0.1))
    finally:
        for layer in ("batch", "speed"):
            home.clear_status(layer)
    assert found["tideline_layer_up"].value(layer="batch") == found["tideline_layer_ready"].value(layer="batch") == 1
    assert found["tideline_layer_up"].value(layer="speed") == 0
    assert found["tideline_batch_error"].value(condition="CHECKSUM") == 1
    assert found["tideline_batch_failures_total"].value() == 1
    assert found["tideline_batch_last_success_timestamp_seconds"].value() == 7
    assert found["tideline_speed_cycle_seconds"].value("_count") == 4
    assert found["tideline_speed_cycle_seconds"].value("_sum") == 1.5


def test_the_age_of_what_is_not_committed_follows_from_where_the_log_ended_before() -> None:
    def end(offset: int) -> Cut:
        return Cut({"t": {0: offset, 1: 1}})

    looks = ((10.0, end(5)), (20.0, end(9)), (30.0, end(12)))
    seen = Seen(Held("b", None, Cut(), end(12)), 31.0, looks)
    assert seen.age("t", end(12)) == 0
    assert seen.age("t", end(10)) == 11, "what lay there at 20 s is committed"
    assert seen.age("t", end(5)) == 21
    assert seen.age("t", Cut()) == 21, "not known: since the first look"
    assert seen.age("t", Cut({"t": {0: 12, 1: 0}})) == 21, "every partition counts"


def test_any_label_and_number_survives_the_format() -> None:
    hostile = ['a"b', "a\\b", "a\nb", "\\n", 'x="1",y="2"', "}", "Ελλάδα", ""]
    out = Exposition([Metric("m", "gauge", ("a", "b"), 'help with \\ and \n and "'), Metric("n", "gauge", (), "h")])
    for number, text in enumerate(hostile):
        out.add("m", number + 0.5, text, "b")
    out.add("n", None)
    found = parse(out.text())
    assert list(found) == ["m"]
    assert found["m"].help == 'help with \\ and \n and "'
    assert [found["m"].value(a=text, b="b") for text in hostile] == [n + 0.5 for n in range(len(hostile))]
    for value in (True, 2**60, 1e-300, float("inf"), float("-inf")):
        one = Exposition([Metric("n", "gauge", (), "h")])
        one.add("n", value)
        assert parse(one.text())["n"].value() == value
    with pytest.raises(ValueError):
        out.add("m", 1, "a")


def test_names_follow_the_conventions() -> None:
    for metric in METRICS:
        assert re.fullmatch(r"tideline_[a-z_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert not re.search(r"_(ms|minutes|hours|kb|mb|milliseconds)\b", metric.name)
        assert metric.help.endswith("."), metric.name


def test_the_metrics_documented_are_those_there_are() -> None:
    table = [[cell.strip("`") for cell in row] for row in rows(read("docs/monitoring.md"), "metric")]
    assert table == [[m.name, m.kind, ", ".join(m.labels), m.help] for m in METRICS]


# The alert rules.

FUNCTIONS = {"rate", "increase", "deriv", "changes", "time", "sum", "max", "avg"}
WORDS = {"by", "and", "or", "unless"}
TOKEN = re.compile(
    r"(?P<space>\s+)|(?P<range>\[\d+[smh]\])|(?P<labels>\{[^}]*\})|(?P<number>\d+(?:\.\d+)?)"
    r"|(?P<word>[a-z_]+)|(?P<operator>==|!=|>=|<=|[-+*/<>])|(?P<other>[(),])"
)


def tokens(expression: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(expression):
        found = TOKEN.match(expression, at)
        assert found, f"{expression[at:]!r} in {expression}"
        at = found.end()
        if found.lastgroup != "space":
            yield str(found.lastgroup), found[0]


def check_expression(expression: str) -> None:
    """Every name in it is a metric, a function, or a label of its metrics."""
    assert expression.count("(") == expression.count(")")
    labels = {"job", "instance"}
    for name in re.findall(r"tideline_\w+", expression):
        family = BY_NAME.get(name) or BY_NAME[re.sub("_(sum|count)$", "", name)]
        labels |= set(family.labels)
    for kind, text in tokens(expression):
        if kind == "labels":
            for matcher in text[1:-1].split(","):
                assert re.fullmatch(r'[a-z_]+(=|!=|=~|!~)"[^"]*"', matcher), text
                assert re.split("[=!]", matcher)[0] in labels, text
        elif kind == "word":
            assert text in BY_NAME or text in FUNCTIONS | WORDS | labels | {"up"}, (text, expression)


@pytest.mark.integration
def test_the_alert_rules_name_metrics_labels_and_sections_that_exist(spark: SparkSession) -> None:
    jvm: Any = spark._jvm
    loaded = jvm.org.yaml.snakeyaml.Yaml().load(read("conf/alerts.yml"))
    (group,) = json.loads(jvm.com.fasterxml.jackson.databind.ObjectMapper().writeValueAsString(loaded))["groups"]
    sections = {
        f"{page}#{heading.lower().replace(' ', '-')}"
        for page in ("docs/monitoring.md", "docs/operations.md")
        for heading in re.findall(r"^#+ (.*)$", read(page), re.MULTILINE)
    }
    names = [rule["alert"] for rule in group["rules"]]
    assert len(set(names)) == len(names) >= 8
    for rule in group["rules"]:
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}, rule
        check_expression(rule["expr"])
        assert rule["labels"]["severity"] in ("critical", "warning")
        notes = rule["annotations"]
        assert notes.keys() == {"summary", "description", "runbook_url"}
        assert notes["runbook_url"] in sections, rule["alert"]
        used = {label for text in notes.values() for label in re.findall(r"\$labels\.(\w+)", text)}
        found = re.findall(r"tideline_\w+", rule["expr"])
        kept = {"instance"} | {label for name in found for label in BY_NAME[name].labels}
        aggregated = set(re.findall(r"by \((\w+)\)", rule["expr"]))
        assert used <= (aggregated or kept), rule["alert"]


def test_the_dashboard_of_grafana_asks_for_metrics_and_labels_that_there_are() -> None:
    dashboard = json.loads(read("conf/grafana-dashboard.json"))
    asked = [target for panel in dashboard["panels"] for target in panel["targets"]]
    expressions = [target["expr"] for target in asked] + [a["expr"] for a in dashboard["annotations"]["list"]]
    for expression in expressions:
        names = re.findall(r"tideline_\w+", expression)
        assert names
        for name in names:
            known = BY_NAME.get(name) or BY_NAME.get(name.removesuffix("_sum").removesuffix("_count"))
            assert known is not None, name
    for target in asked:
        for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
            labels = {one for name in re.findall(r"tideline_\w+", target["expr"]) for one in BY_NAME[name].labels}
            assert label in labels, target
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"]) >= 10
