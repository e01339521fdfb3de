"""Removing people: what is left of them in files and answers, whatever arrives later and wherever it is cut off."""

from __future__ import annotations

import datetime as dt
import json
import os
import random
import shutil
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from cases import START, Event
from command import argv, tideline
from faults import Crash, crash_at
from installed import Installed
from kafka import KafkaProducer

from batch_layer.erase import clear, erase
from batch_layer.evidence import Evidence
from tideline import ApproxDistinct, Count, CountBy, First, Last, Max, Min, Source, Sum, TopK, View, hours
from tideline.apply import plan_changes
from tideline.errors import StoreError
from tideline.oracle import verify
from tideline.points import ERASE_POINTS
from tideline.runtime.broker import Broker
from tideline.runtime.home import Home
from tideline.runtime.ports import port_answers
from tideline.runtime.reading import Record
from tideline.runtime.stopped import kafka_of
from tideline.runtime.topics import create_topic, topic_ids, topic_settings
from tideline.settings import load_settings
from tideline.stores.lmdb import LmdbStore

SCHEMA = "id string, customer string, country string, amount int, at timestamp"
HOUR = 3_600_000_000


def make_views(topic: str) -> list[View]:
    """Views that hold customers in every way: as a key, as the first, last, least, most, top and counted value."""
    events = Source("events", schema=SCHEMA, event_time="at", event_id="id", topic=topic, max_ahead=None)
    return [
        View(
            "customers",
            source=events,
            key="customer",
            bucket=hours(1),
            measures={"lines": Count(), "amount": Sum("amount"), "country": Last("country")},
        ),
        View(
            "countries",
            source=events,
            key="country",
            measures={
                "lines": Count(),
                "first": First("customer"),
                "last": Last("customer"),
                "least": Min("customer"),
                "most": Max("customer"),
                "counts": CountBy("customer"),
                "top": TopK("customer", k=3),
                "distinct": ApproxDistinct("customer"),
            },
        ),
        View("keyed", source=events, where="_key is not null", measures={"lines": Count(), "key": Max("id")}),
    ]


def naive(records: Iterable[Record], gone: set[str]) -> dict[str, dict[Any, dict[str, Any]]]:
    """The three views, counted one by one, over the records of everybody else."""
    seen, rows = set(), []
    for record in sorted(records, key=lambda record: (record.partition, record.offset)):
        try:
            event = json.loads(record.value or b"")
        except ValueError:
            continue
        if not isinstance(event.get("amount"), int) or event["customer"] in gone:
            continue
        if (record.partition, event["id"]) not in seen:
            seen.add((record.partition, event["id"]))
            at = (
                dt.datetime.fromisoformat(event["at"]) - dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
            ).total_seconds()
            rows.append(((int(at * 1e6), record.partition, record.offset), event, record.key))
    rows.sort(key=lambda row: row[0])
    found: dict[str, dict[Any, dict[str, Any]]] = {"customers": {}, "countries": {}, "keyed": {}}
    customers, countries = defaultdict(list), defaultdict(list)
    for row in rows:
        customers[(row[1]["customer"],), row[0][0] // HOUR * HOUR].append(row[1])
        countries[(row[1]["country"],), None].append(row[1]["customer"])
    for key, events in customers.items():
        amount = sum(event["amount"] for event in events)
        found["customers"][key] = {"lines": len(events), "amount": amount, "country": events[-1]["country"]}
    for key, names in countries.items():
        counts = Counter(names)
        found["countries"][key] = {
            "lines": len(names),
            "first": names[0],
            "last": names[-1],
            "least": min(names),
            "most": max(names),
            "counts": dict(counts),
            "top": [list(item) for item in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:3]],
            "distinct": len(counts),
        }
    keyed = [event["id"] for _, event, key in rows if key is not None]
    if keyed:
        found["keyed"][(), None] = {"lines": len(keyed), "key": max(keyed)}
    return found


class Shop:
    """An installation with customers, some of whom are going to be erased."""

    def __init__(self, installed: Installed, seed: int) -> None:
        self.installed = installed
        self.dice = random.Random(seed)
        self.ids = [f"{self.dice.getrandbits(128):032x}" for _ in range(10)]
        self.others = [f"c{number}" for number in range(12)]
        self.sent = 0
        self.producer = KafkaProducer(bootstrap_servers=installed.bootstrap, linger_ms=5)
        installed.apply(*make_views(installed.topic))

    def event(self, customer: str) -> Event:
        self.sent += 1
        return {
            "id": f"e{self.sent:05}",
            "customer": customer,
            "country": self.dice.choice(["FR", "DE", "GR"]),
            "amount": self.dice.randrange(100),
            "at": (START + dt.timedelta(seconds=self.dice.randrange(20_000))).isoformat(),
        }

    def put(self, value: bytes | None, key: str | None = None, headers: Mapping[str, bytes] | None = None) -> None:
        raw = None if key is None else key.encode()
        self.producer.send(self.installed.topic, value, raw, list((headers or {}).items()))

    def send(self, ids: Iterable[str], others: int = 30) -> None:
        """Events of everybody; of each of these ids also every kind of record that holds it, alive and dead."""
        for _ in range(others):
            self.put(json.dumps(self.event(self.dice.choice(self.others))).encode(), self.dice.choice(["k", None]))
        for id in ids:
            event = json.dumps(self.event(id)).encode()
            self.put(event, id, {"trace": b"of " + id.encode()})
            self.put(event)
            escaped = "".join(f"\\u{ord(letter):04x}" for letter in id).encode()
            self.put(json.dumps(self.event(id)).encode().replace(id.encode(), escaped))
            self.put(event[:-7])
            self.put(event.replace(b'"amount": ', b'"amount": "x", "n": '))
            self.put(None, id)
            self.put(b"\xff" + id.encode(), None, {"who": id.encode()})
        self.producer.flush(30)

    def close(self) -> None:
        self.producer.close(timeout=5)

    def wrong(self, gone: Iterable[str]) -> list[Any]:
        """Where the answers are not those of a log without these customers."""
        committed, found = self.installed.look()
        expected = naive(self.installed.records(committed), set(gone))
        return [
            (view, key, expected[view].get(key), found[view].get(key))
            for view in expected
            for key in expected[view].keys() | found[view].keys()
            if expected[view].get(key) != found[view].get(key)
        ]

    def reopen(self) -> None:
        """As after a restart."""
        self.installed.store = LmdbStore.open(self.installed.home.path, map_size=1 << 30)
        self.installed.new_batch_layer()

    def erase(self, *ids: str) -> Evidence:
        """As the command does, on the session of the tests; the store is open again afterwards, however it ends."""
        home, named = self.installed.home, [("customer", id) for id in ids]
        self.installed.store.close()
        try:
            return clear(home, named, erase(home, self.installed.spark, self.installed.bootstrap, "events", named))
        finally:
            self.reopen()


@pytest.fixture
def shop(installed: Installed) -> Any:
    made = Shop(installed, 4)
    yield made
    made.close()


def holding(home: Home, ids: Iterable[str]) -> dict[str, set[Path]]:
    """{id: files that hold it}, in their bytes or in what Parquet decodes to; nothing else is compressed."""
    found: dict[str, set[Path]] = defaultdict(set)
    for folder, _, names in os.walk(home.path):
        for path in (Path(folder) / name for name in names):
            if home.kafka in path.parents:
                continue
            text = path.read_bytes().decode("latin-1")
            if path.suffix == ".parquet":
                text += repr(pq.read_table(path, partitioning=None).to_pylist())
            for id in ids:
                if id in text:
                    found[id].add(path)
    return found


@pytest.mark.timeout(900)
def test_ten_people_are_gone_from_every_file_and_answer_and_do_not_come_back(shop: Shop) -> None:
    installed, ids, home = shop.installed, shop.ids, shop.installed.home
    for _ in range(2):
        shop.send(ids)
        installed.batch()
    with installed.speed():
        shop.send(ids)
        installed.wait_committed()
    shop.send(ids[:5])
    (home.logs / "speed.log").write_bytes(b"began\nfailed on " + ids[0].encode() + b"\nended\n")
    (home.tmp / "speed-1").mkdir()
    (home.tmp / "speed-1" / "scratch").write_text(ids[1])
    shutil.copytree(home.store, home.path / "store.damaged")
    before = holding(home, ids)
    assert all({"master", "batch", "store"} <= {p.relative_to(home.path).parts[0] for p in before[i]} for i in ids)
    assert shop.wrong([]) == []
    assert len(installed.ledger.versions) == 3

    words = ["--home", str(home.path), "--bootstrap-server", installed.bootstrap, "--source"]
    with home.lock("speed"):
        assert "HOME_IN_USE" in tideline("erase", *words, "events", "--key", "customer=c1", "-o", "json").out
    refused = tideline("erase", *words, "nothing", "--key", f"customer={ids[0]}")
    assert (refused.code, ids[0] in refused.out + refused.err) == (2, False)
    installed.store.close()
    done = subprocess.run(
        argv("erase", *words, "events", "--key", f"customer={ids[0]}", "--key", "customer=-", "-o", "json"),
        input="\n".join(ids[1:]),
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not any(id in done.stdout + done.stderr for id in ids)
    shop.reopen()
    evidence = json.loads(done.stdout)
    assert (evidence["ids"], evidence["entered"], evidence["scan"]["found"]) == (10, 10, [])
    assert sum(evidence["records"].values()) == (3 * 10 + 5) * 7
    assert sum(evidence["dead_letters"].values()) == 2 * 10 * 4
    assert evidence["kafka"]["records"] == evidence["records"]
    newest = dt.datetime.fromisoformat(evidence["kafka"]["newest"].replace("Z", "+00:00"))
    ends = dt.datetime.fromisoformat(evidence["kafka"]["retention_ends"].replace("Z", "+00:00"))
    assert ends - newest == dt.timedelta(days=30)
    assert holding(home, ids) == {}
    assert (home.logs / "speed.log").read_bytes() == b"began\nended\n"
    assert shop.wrong(ids) == []
    assert len(installed.ledger.versions) == 1
    report = verify(home, bootstrap=installed.bootstrap)
    assert report.ok, report.to_text()

    resolved = installed.resolve(make_views(installed.topic))
    assert {change.action for change in plan_changes(installed.ledger, resolved)} == {"keep"}
    with installed.speed():
        shop.send(ids[3:])
        installed.wait_committed()
        assert shop.wrong(ids) == []
        installed.batch()
        shop.send(ids[:3])
        installed.wait_committed()
        assert shop.wrong(ids) == []
    installed.batch(full=True, redecode=True)
    assert shop.wrong(ids) == []
    assert holding(home, ids) == {}

    again = shop.erase(*ids, f"{shop.dice.getrandbits(128):032x}")
    assert (again.entered, again.records, again.ok) == (1, {}, True)
    installed.lose_store()
    installed.apply(*make_views(installed.topic))
    installed.batch()
    with installed.speed():
        shop.send(ids)
        installed.wait_committed()
        assert shop.wrong(ids) == []
    installed.batch()
    assert shop.wrong(ids) == []
    assert holding(home, ids) == {}
    assert verify(home, bootstrap=installed.bootstrap).ok


RUN = ["archive.rewrite", "archive.rewritten", "segment.load", "publish", "publish.done"]
STEPS = [*(list(ERASE_POINTS)[:2]), *RUN, *(list(ERASE_POINTS)[2:])]


def break_off(shop: Shop, monkeypatch: pytest.MonkeyPatch, point: str, gone: list[str]) -> None:
    """An erasure that ends at a point. The answers are then those of the views that are published."""
    with monkeypatch.context() as patch:
        crash_at(patch, point)
        with pytest.raises(Crash, match=point):
            shop.erase(*gone)
    published = STEPS.index(point) >= STEPS.index("publish.done")
    assert shop.wrong(gone if published else []) == [], point


def complete(shop: Shop, gone: list[str], left: str) -> None:
    evidence = shop.erase(*gone)
    assert evidence.ok
    assert shop.wrong(gone) == []
    assert set(holding(shop.installed.home, [*gone, left])) == {left}
    report = verify(shop.installed.home, bootstrap=shop.installed.bootstrap)
    assert report.ok, report.to_text()


@pytest.mark.timeout(600)
def test_an_erasure_cut_off_at_every_step_answers_rightly_and_the_last_attempt_completes_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, left = shop.ids[:2], shop.ids[2]
    shop.send([*gone, left], others=60)
    shop.installed.batch()
    for point in STEPS:
        break_off(shop, monkeypatch, point, gone)
    complete(shop, gone, left)


@pytest.mark.timeout(600)
def test_the_layers_may_run_while_an_erasure_is_not_complete(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    installed, gone, left = shop.installed, shop.ids[:2], shop.ids[2]
    shop.send([*gone, left], others=60)
    installed.batch()
    break_off(shop, monkeypatch, "erase.registered", gone)
    with installed.speed():
        shop.send([*gone, left], others=10)
        installed.wait_committed()
        assert shop.wrong([]) == []
    break_off(shop, monkeypatch, "archive.rewritten", gone)
    installed.batch()
    report = verify(installed.home, bootstrap=installed.bootstrap)
    assert report.ok, report.to_text()
    for point in ("erase.checkpoint", "erase.store"):
        break_off(shop, monkeypatch, point, gone)
        with installed.speed():
            shop.send([*gone, left], others=10)
            installed.wait_committed()
            assert shop.wrong(gone) == []
    complete(shop, gone, left)


def test_a_store_that_is_open_elsewhere_is_not_replaced(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tideline.stores.lmdb_rewrite._PATIENCE", 0.1)
    named = [("customer", shop.ids[0])]
    with pytest.raises(StoreError) as refused:
        erase(shop.installed.home, shop.installed.spark, shop.installed.bootstrap, "events", named)
    assert refused.value.condition == "STORE_IN_USE"
    assert refused.value.params["pid"] == str(os.getpid())


def test_an_embedded_broker_runs_for_the_time_it_takes_and_keeps_what_it_kept(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").prepare()
    with Broker(home) as broker:
        id = create_topic(broker.bootstrap, "t")
    (home.run / "settings.toml").write_text("[kafka]\nretention_hours = 2000\n", "utf-8")
    with kafka_of(home, load_settings(None, {})) as bootstrap:
        assert topic_ids(bootstrap, ["t"]) == {"t": id}
        assert int(topic_settings(bootstrap, "t")["retention.ms"]) == 2000 * 3_600_000
    assert not port_answers("127.0.0.1", int(bootstrap.rpartition(":")[2]))
    with kafka_of(home, load_settings(None, {}, {"kafka.bootstrap": "elsewhere:9092"})) as bootstrap:
        assert bootstrap == "elsewhere:9092"
