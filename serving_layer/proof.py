"""The proof of an answer: which part of the log it comes from, what was left out, how exact it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from typing import Any

from serving_layer.plan import Plan
from tideline.ledger import Ledger, LogStats, Version
from tideline.types import bucket_start, json_value

Json = dict[str, Any]
LIVE, BATCH = "live", "batch"
NOT_TOLD = "whoever is kept to nothing sees the reason"
"""Instead of why a view failed, which may quote a record."""


class Proof:
    """What proves every answer of a plan at a ledger: of it, only how fresh the answer is changes with the moment.

    It is kept as text, as most answers go out: nobody who is given a proof can change another one.
    """

    def __init__(self, ledger: Ledger, plan: Plan) -> None:
        self._set(make_proof(ledger, plan), plan)

    def _set(self, found: Json, plan: Plan) -> None:
        text = json_text(found)
        self._live = plan.version is None
        self._before, _, self._after = text.partition('"freshness":null')  # a quote within a text has a backslash
        shown = json_text([text, *plan.view.answers.items()])  # answers may change and the definition stay
        self.tag = blake2b(shown.encode("utf-8", "backslashreplace"), digest_size=8).hexdigest()
        """Equal for answers to one query that are equal but for their freshness."""
        self._other: Proof | None = None
        if found["quarantined"] not in (None, NOT_TOLD):
            self._other = Proof.__new__(Proof)
            self._other._set(without_reason(found), plan)

    @property
    def without_reason(self) -> Proof:
        """The same for those who may not see records, also its tag: a reason could be guessed by that."""
        return self._other or self

    def text(self, freshness: float | None) -> str:
        """Its JSON; `freshness` is how many seconds ago the last commit was."""
        return f'{self._before}"freshness":{json_text(freshness if self._live else None)}{self._after}'

    def value(self, freshness: float | None) -> Json:
        """The same as a value."""
        found: Json = json.loads(self.text(freshness))
        return found


json_text: Callable[[Any], str] = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
"""Compact JSON, whole numbers of any size as numbers."""


def make_proof(ledger: Ledger, plan: Plan) -> Json:
    """The JSON-able proof of a plan's answer at a snapshot's ledger, but for its `freshness`.

    `mode` is `live`, or `batch` for an older version. Cuts are those of the view's topic: `origin` is where its
    history begins, `batch_cut` where batch ends and speed begins, `cut` where the answer ends. `events`,
    `rejects`, `duplicates` and `dead_letters` count per side. `freshness` is how many seconds ago the last
    commit was, null where that is not known. `losses` are the ranges before the cut that are gone from the log,
    or were replaced.
    """
    view, topic = plan.view, ledger.topic_of(plan.view.fingerprint)
    live = plan.version is None
    version = ledger.version if plan.version is None else ledger.find_version(plan.version)
    generations = ledger.generations if live else ()
    batch = _sum(version.log.get(topic, {}).values())
    speed = _sum(stats for generation in generations for stats in generation.log.get(topic, {}).values())
    rejects = sum(generation.rejects.get(view.fingerprint, 0) for generation in generations)
    batch_cut, committed = version.cut.restrict([topic]), ledger.committed.restrict([topic])
    return {
        "view": view.name,
        "fingerprint": view.fingerprint,
        "mode": LIVE if live else BATCH,
        "version": version.id,
        "origin": ledger.origin.restrict([topic]).to_json(),
        "cut": (committed if live else batch_cut).to_json(),
        "batch_cut": batch_cut.to_json(),
        "committed_cut": committed.to_json(),
        "events": {"batch": batch.events, "speed": speed.events},
        "rejects": {"batch": version.rejects.get(view.fingerprint, 0), "speed": rejects},
        "duplicates": {"batch": batch.duplicates, "speed": speed.duplicates},
        "dead_letters": {"batch": sum(batch.dead.values()), "speed": sum(speed.dead.values())},
        "losses": [
            loss.to_json()
            for loss in ledger.losses
            if loss.topic == topic and loss.begin < (committed if live else batch_cut).offset(topic, loss.partition)
        ],
        "floor": _floor(version, view.fingerprint),
        "quarantined": ledger.quarantined.get(view.fingerprint, {}).get("reason"),
        "freshness": None,
        "measures": {name: _bound(plan, name) for name in plan.shown},
    }


def without_reason(proof: Json) -> Json:
    """The same proof, without why its view failed."""
    return proof if proof["quarantined"] is None else {**proof, "quarantined": NOT_TOLD}


def _sum(parts: Iterable[LogStats]) -> LogStats:
    total = LogStats()
    for stats in parts:
        total = total.merge(stats)
    return total


def _floor(version: Version, fingerprint: str) -> str | None:
    floor: str | None = json_value(bucket_start(version.floors.get(fingerprint)))
    return floor


def _bound(plan: Plan, name: str) -> Mapping[str, Any]:
    measure = plan.view.measures.get(name)
    if measure is not None:
        return dict(measure.bound)
    inexact = sorted(inner for inner in plan.answers[name].names if not plan.view.measures[inner].bound["exact"])
    if not inexact:
        return {"exact": True}
    return {
        "exact": False,
        "kind": "computed from bounded measures",
        "of": inexact,
        "text": f"computed from {', '.join(inexact)}",
    }
