"""The state of an installation: from its ledger, from what its processes wrote in `HOME/run`, from Kafka."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from serving_layer.kafka import Held, bootstrap_of
from serving_layer.proof import NOT_TOLD
from tideline.cut import Cut
from tideline.ledger import Generation, Ledger, Log, add_counts
from tideline.retention import count_deleted
from tideline.runtime.home import Home, process_alive

__all__ = ["bootstrap_of", "lag", "margin", "quarantined", "read_status"]

Json = dict[str, Any]
LAYERS = ("speed", "batch", "serve")


def read_status(home: Home, ledger: Ledger, held: Held) -> Json:
    """All that `tideline status -o json` prints; `held` is what Kafka holds.

    `ready`: the speed and the serving process run and say that they are ready, and Kafka answers. `kafka`
    and `api` say where they are. `lag_events` counts offsets in Kafka that are not committed.
    `retention_margin` is how many offsets before the archived cut Kafka still holds, in the partition with
    the fewest; below zero, records were lost. Where Kafka does not answer both are null, and `kafka.error`
    says why.
    """
    layers = {layer: layer_status(home, layer) for layer in LAYERS}
    serve = layers["serve"]
    running = all(layers[layer]["ready"] for layer in ("speed", "serve"))
    return {
        "ready": running and held.error is None,
        "kafka": {"bootstrap": held.bootstrap, "error": held.error},
        "api": serve.get("url") if serve["alive"] else None,
        "home": str(home.path),
        "layers": layers,
        "committed": ledger.committed.to_json(),
        "archived": ledger.archived.to_json(),
        "published": ledger.version.cut.to_json(),
        "lag_events": lag(held.ends, ledger.committed) if held.error is None else None,
        "sources": {
            name: _source(ledger, str(source["topic"]), held) for name, source in sorted(ledger.sources.items())
        },
        "unpublished_events": ledger.committed.count_since(ledger.version.cut),
        "generations": [_generation(generation, ledger.committed) for generation in ledger.generations],
        "batch_version": ledger.version.id,
        "versions": [
            {"version": version.id, "cut": version.cut.to_json(), "published_at": version.published_at}
            for version in ledger.versions
        ],
        "last_batch": None if ledger.last_batch is None else dict(ledger.last_batch),
        "views": {"live": sorted(ledger.live), "waiting": views_waiting(ledger), "quarantined": quarantined(ledger)},
        "events": _by_source(ledger, lambda log: sum(stats.events for stats in log.values())),
        "dead_letters": _by_source(ledger, _dead),
        "duplicates": _by_source(ledger, lambda log: sum(stats.duplicates for stats in log.values())),
        "retention_margin": margin(held.starts, ledger),
    }


def freshness(speed: Mapping[str, Any]) -> float | None:
    """Seconds since the last commit, as the speed layer's note says; None where it says nothing."""
    at = speed.get("committed_at")
    return None if at is None else round(max(time.time() - float(at), 0.0), 3)


def views_waiting(ledger: Ledger) -> list[str]:
    """Views that were applied and that the next batch run builds."""
    return sorted(name for name, found in ledger.wanted.items() if ledger.live.get(name) != found)


def quarantined(ledger: Ledger) -> list[Json]:
    """Views that failed and are left out until they are corrected: name, fingerprint, reason, layer, cut, time."""
    found = [{"fingerprint": fingerprint, **entry} for fingerprint, entry in ledger.quarantined.items()]
    return sorted(found, key=lambda entry: str(entry["view"]))


def without_reasons(status: Json) -> Json:
    """The same status, without why views and runs failed, which may quote records."""
    views, layers = status["views"], status["layers"]
    told = {name: {**one, "error": NOT_TOLD} if one.get("error") else one for name, one in layers.items()}
    failed = [{**one, "reason": NOT_TOLD} for one in views["quarantined"]]
    return {**status, "layers": told, "views": {**views, "quarantined": failed}}


def layer_status(home: Home, layer: str) -> Json:
    """What a process says of itself, and whether it lives."""
    status = home.read_status(layer)
    if status is None:
        return {"alive": False, "ready": False}
    alive = process_alive(int(status.get("pid", 0)))
    return {**status, "alive": alive, "ready": alive and bool(status.get("ready", True))}


def _generation(generation: Generation, committed: Cut) -> Json:
    stats = [stats for partitions in generation.log.values() for stats in partitions.values()]
    return {
        "id": generation.id,
        "begin": generation.begin.to_json(),
        "end": (generation.end or committed).to_json(),
        "open": generation.end is None,
        "events": sum(part.events for part in stats),
    }


def _source(ledger: Ledger, topic: str, held: Held) -> Json:
    def offset(cut: Cut) -> int:
        return cut.restrict([topic]).count_since(ledger.origin.restrict([topic]))

    return {
        "topic": topic,
        "committed": offset(ledger.committed),
        "archived": offset(ledger.archived),
        "published": offset(ledger.version.cut),
        "lag": None if held.error else lag(held.ends.restrict([topic]), ledger.committed),
    }


def _by_source(ledger: Ledger, count: Any) -> dict[str, Any]:
    log: Log = ledger.log()
    return {name: count(log.get(str(source["topic"]), {})) for name, source in sorted(ledger.sources.items())}


def _dead(log: Mapping[int, Any]) -> dict[str, int]:
    reasons: dict[str, int] = {}
    for stats in log.values():
        reasons = add_counts(reasons, stats.dead)
    return dict(sorted(reasons.items()))


def lag(ends: Cut, committed: Cut) -> int:
    """Offsets that Kafka holds and the speed layer has not committed."""
    return sum(max(end - committed.offset(topic, partition), 0) for topic, partition, end in ends.partitions())


def margin(starts: Cut, ledger: Ledger) -> Json | None:
    """`{"offsets", "deleted", "topic", "partition"}` of the partition with the fewest left; None without any.

    `deleted` counts the offsets that Kafka has let go: while it is 0, a small margin is no danger.
    """
    found = [
        {
            "offsets": min(ledger.archived.offset(topic, partition), ledger.committed.offset(topic, partition)) - start,
            "deleted": count_deleted(ledger.origin.offset(topic, partition), start),
            "topic": topic,
            "partition": partition,
        }
        for topic, partition, start in starts.partitions()
    ]
    return min(found, key=lambda entry: int(str(entry["offsets"])), default=None)
