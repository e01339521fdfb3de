"""Part 7, published workloads: two queries of Nexmark and the Yahoo streaming benchmark's, beside two peers."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from contestants import Contestant, EngineFault
from figures import Figure, Runs
from peer_environments import PeerMissing, peer_python
from published import Ads, Bids
from sales import check

from tideline.produce import produce_raw
from tideline.runtime.broker import Broker
from tideline.runtime.home import Home
from tideline.runtime.topics import create_topic

PART = "workloads"
PARTITIONS = 4
WARM = 200_000
MOST = 1_000_000  # offsets of a micro-batch
TIMEOUT = 900.0
STREAMS: dict[str, Callable[[], Bids | Ads]] = {"nexmark": Bids, "ysb": Ads}
WORKLOADS = {"q17": "nexmark", "q5": "nexmark", "campaigns": "ysb"}
CONTESTANTS = ("tideline", "spark", "pathway")


def run(runs: Runs, events: int, rounds: int) -> None:
    """Measures what is not yet in `runs`: each query, the contestants in turn. A time counts once its answers are
    right."""
    with ExitStack() as stack:
        home = Home(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tideline-bench-")))).prepare()
        broker = stack.enter_context(Broker(home))
        expected = {}
        for example, stream in STREAMS.items():
            for topic, count in ((f"{example}-warm", WARM), (example, events)):
                create_topic(broker.bootstrap, topic, PARTITIONS)
                drawn = stream()
                produce_raw(drawn.events(count), topic, broker.bootstrap)
                expected[topic] = drawn.answers()
        jvms = {name: stack.enter_context(Contestant(f"engine_{name}.py")) for name in ("tideline", "spark")}

        def ask(name: str, topic: str, view: str) -> dict[str, Any]:
            with tempfile.TemporaryDirectory(dir=home.path) as folder:
                path = Path(folder) / "answers.json"
                request = {"bootstrap": broker.bootstrap, "topic": topic, "answers": str(path)}
                request |= {"do": "workload", "example": WORKLOADS[view], "view": view}
                if name in jvms:
                    reply = jvms[name].ask(TIMEOUT, most=MOST, **request)
                else:
                    with Contestant(f"peers/engine_{name}.py", peer_python(name)) as peer:
                        reply = peer.ask(TIMEOUT, **request)
                check({view: expected[topic][view]}, json.loads(path.read_text("utf-8")))
            return reply

        for view, example in WORKLOADS.items():
            for name in jvms:
                if len(runs.of(PART, f"{name}, {view}")) < rounds:
                    for _ in range(2):
                        ask(name, f"{example}-warm", view)
            for number in range(rounds):
                for name in CONTESTANTS:
                    if len(runs.of(PART, f"{name}, {view}")) <= number:
                        try:
                            runs.add(PART, f"{name}, {view}", **ask(name, example, view))
                        except (EngineFault, PeerMissing) as fault:
                            runs.add(PART, f"{name}, {view}", fault=str(fault))


def figures(runs: Runs) -> list[Figure]:
    """Seconds of each query, and against the best peer in the same run."""
    found = []
    for view in WORKLOADS:
        ours = runs.values(PART, f"tideline, {view}", "seconds")
        peers = {
            name: sorted(times)[len(times) // 2]
            for name in CONTESTANTS[1:]
            if (times := runs.values(PART, f"{name}, {view}", "seconds"))
        }
        found.append(Figure(PART, f"{view}, from a backlog to its answers", "s", ours, peers=peers))
        if peers:
            best = min(peers, key=lambda name: peers[name])
            others = runs.values(PART, f"{best}, {view}", "seconds")
            times = [mine / other for mine, other in zip(ours, others, strict=False)]
            found.append(Figure(PART, f"{view} against the best peer", "times", times, note=best))
    return [figure for figure in found if figure.runs]
