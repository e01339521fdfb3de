"""Part 1, drain: seconds for a backlog of five million events and three views, beside other engines."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from contestants import Contestant, EngineFault
from figures import Figure, Runs
from kafka import KafkaConsumer, TopicPartition
from peer_environments import PeerMissing, peer_python
from sales import Answers, Sales, check

from tideline.produce import produce_raw
from tideline.runtime.broker import Broker
from tideline.runtime.home import Home
from tideline.runtime.topics import create_topic

PART = "drain"
PARTITIONS = 4
WARM = 200_000
COMMIT_MS = 2_000  # of peers that commit by the clock; about a micro-batch of a backlog here
MOST = 1_000_000  # offsets of a micro-batch
TIMEOUT = 900.0
Ask = Callable[[str, int, Path], dict[str, Any]]
"""(topic, its records, where answers go) -> the reply."""


class Backlog:
    """A broker with a small topic to warm up on and the large one, and what each must answer."""

    def __init__(self, home: Home, broker: Broker, records: int) -> None:
        self.home, self.bootstrap = home, broker.bootstrap
        self.expected: dict[str, tuple[int, Answers]] = {}
        for topic, count in (("warm", WARM), ("backlog", records)):
            create_topic(self.bootstrap, topic, PARTITIONS)
            sales = Sales(len(topic))
            produce_raw(sales.events(count), topic, self.bootstrap)
            self.expected[topic] = count, sales.answers

    def run(self, runs: Runs, name: str, ask: Ask, checked: bool = True) -> None:
        """One drain; it counts once its answers are those expected. Raises EngineFault where they are not."""
        records, expected = self.expected["backlog"]
        with tempfile.TemporaryDirectory(dir=self.home.path) as folder:
            path = Path(folder) / "answers.json"
            reply = ask("backlog", records, path)
            found = json.loads(path.read_text("utf-8")) if path.exists() else {}
        if checked:
            check(expected, found)
        runs.add(PART, name, cpu_per_million=round(reply["cpu"] * 1e6 / records, 2), **reply)

    def upserts(self, topic: str, path: Path) -> dict[str, str]:
        """Topics for a peer that writes its answers to Kafka, a new one for each view."""
        names = {view: f"{topic}-{path.parent.name}-{view}" for view in ("by_product", "by_customer", "by_hour")}
        for name in names.values():
            create_topic(self.bootstrap, name, PARTITIONS)
        return names

    def last_values(self, names: dict[str, str], path: Path) -> None:
        """Writes the answers that these topics end in."""
        found: Answers = {}
        for view, name in names.items():
            width = 2 if view == "by_customer" else 3
            rows = found[view] = {}
            consumer = KafkaConsumer(bootstrap_servers=self.bootstrap, enable_auto_commit=False)
            parts = [TopicPartition(name, partition) for partition in range(PARTITIONS)]
            consumer.assign(parts)
            consumer.seek_to_beginning(*parts)
            ends = consumer.end_offsets(parts)
            while any(consumer.position(part) < end for part, end in ends.items()):
                for records in consumer.poll(timeout_ms=1000, max_records=50_000).values():
                    for record in records:
                        row = json.loads(record.value)
                        rows[row["k"]] = [row["lines"], row["quantity"], row["largest"]][:width]
            consumer.close()
        path.write_text(json.dumps(found), "utf-8")


def run(runs: Runs, records: int, rounds: int, others: int, only: Iterable[str] = ()) -> None:
    """Measures what is not yet in `runs`: `rounds` of Tideline, reading alone and the two best peers, in turn, and
    `others` of the rest."""
    with ExitStack() as stack:
        home = Home(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tideline-bench-")))).prepare()
        backlog = Backlog(home, stack.enter_context(Broker(home)), records)
        asks = {name: ask for name, ask in _asks(stack, backlog).items() if not only or name in only}
        for number in range(max(rounds, others)):
            for name in sorted(asks, key=lambda name: runs.values(PART, name, "seconds")[:1]):
                wanted = rounds if name in _often(runs) else others
                if number < wanted and len(runs.of(PART, name)) <= number:
                    try:
                        backlog.run(runs, name, asks[name], checked=name != "reading")
                    except (EngineFault, PeerMissing) as fault:
                        runs.add(PART, name, fault=str(fault))


def _often(runs: Runs) -> set[str]:
    """What is measured in every round: our own, reading alone, and the two peers that were best so far."""
    peers = {name: times[0] for name in PEERS if (times := runs.values(PART, name, "seconds"))}
    return {"reading", "tideline", *sorted(peers, key=lambda name: peers[name])[:2]}


PEERS = ("spark", "spark, one query", "pathway", "pathway, static", "flink", "flink, mini-batch", "bytewax", "quix")


def _asks(stack: ExitStack, backlog: Backlog) -> dict[str, Ask]:
    """How each contestant is asked; those in a JVM are started once and warm."""
    where = {"bootstrap": backlog.bootstrap}
    jvms: dict[str, Contestant] = {}
    warmed: set[str] = set()

    def warm(script: str, **request: Any) -> dict[str, Any]:
        if script not in jvms:
            jvms[script] = stack.enter_context(Contestant(script))
        kind = f"{script} {request['do']} {request.get('identified')}"
        if kind not in warmed:
            warmed.add(kind)
            for _ in range(3):
                jvms[script].ask(TIMEOUT, **{**request, "topic": "warm"})
        return jvms[script].ask(TIMEOUT, **request)

    def once(peer: str, **request: Any) -> dict[str, Any]:
        with Contestant(f"peers/engine_{peer}.py", peer_python(peer)) as contestant:
            return contestant.ask(TIMEOUT, do="drain", **where, **request)

    def tideline(identified: bool) -> Ask:
        return lambda topic, _, path: warm(
            "engine_tideline.py",
            **where,
            do="drain",
            topic=topic,
            answers=str(path),
            most=MOST,
            identified=identified,
        )

    def spark(action: str) -> Ask:
        return lambda topic, _, path: warm(
            "engine_spark.py", **where, do=action, topic=topic, answers=str(path), most=MOST
        )

    def pathway(static: bool) -> Ask:
        return lambda topic, records, path: once(
            "pathway", topic=topic, answers=str(path), records=records, commit_ms=COMMIT_MS, static=static
        )

    def flink(mini_batch: bool) -> Ask:
        def ask(topic: str, _: int, path: Path) -> dict[str, Any]:
            sinks = backlog.upserts(topic, path)
            reply = once("flink", topic=topic, sinks=sinks, commit_ms=COMMIT_MS, mini_batch=mini_batch)
            backlog.last_values(sinks, path)
            return reply

        return ask

    return {
        "reading": lambda topic, _, path: warm("engine_spark.py", **where, do="read", topic=topic),
        "tideline": tideline(identified=False),
        "tideline, repeats found": tideline(identified=True),
        "spark": spark("drain"),
        "spark, one query": spark("drain_together"),
        "pathway": pathway(static=False),
        "pathway, static": pathway(static=True),
        "flink": flink(mini_batch=False),
        "flink, mini-batch": flink(mini_batch=True),
        "bytewax": lambda topic, _, path: once("bytewax", topic=topic, answers=str(path), workers=2),
        "quix": lambda topic, records, path: once("quix", topic=topic, answers=str(path), records=records),
    }


def figures(runs: Runs) -> list[Figure]:
    """What was measured, as ratios of one run."""
    ours, reading = runs.values(PART, "tideline", "seconds"), runs.values(PART, "reading", "seconds")
    peers = {name: sorted(times)[len(times) // 2] for name in PEERS if (times := runs.values(PART, name, "seconds"))}
    best = min(peers, key=lambda name: peers[name], default="")
    ratios = [mine / bare for mine, bare in zip(ours, reading, strict=False)]
    against = [mine / other for mine, other in zip(ours, runs.values(PART, best, "seconds"), strict=False)]
    found = [
        Figure(PART, "time against reading alone", "times", ratios, None, 1.6),
        Figure(PART, "time against the best peer", "times", against, 1.0, 0.5, peers=peers, note=best),
        Figure(PART, "seconds", "s", ours),
    ]
    for name in ("tideline", "reading", *peers):
        cpu = runs.values(PART, name, "cpu_per_million")
        found.append(Figure(PART, f"processor seconds a million events, {name}", "s", cpu))
    return [figure for figure in found if figure.runs]
