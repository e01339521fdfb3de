"""Registering definitions: what `apply` changes (invariant 8), and the identity of topics (invariant 7)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tideline.cut import Cut
from tideline.errors import ProtocolError, TopicRecreatedError
from tideline.ledger.parts import Loss, merge_losses

if TYPE_CHECKING:
    from tideline.ledger.state import Ledger

Json = Mapping[str, Any]


def apply(
    ledger: Ledger,
    sources: Mapping[str, Json],
    definitions: Mapping[str, Json],
    wanted: Mapping[str, str],
    topic_ids: Mapping[str, str],
    origin: Cut,
    retry: Collection[str],
    losses: Iterable[Loss],
) -> Ledger:
    """Registers a catalog's sources and views; the next seal brings `wanted` into force.

    A definition that is quarantined stays so, unless its view's name is in `retry`; one that is no longer wanted is
    forgotten.

    `sources` by name and `definitions` by fingerprint are their `to_json`. `topic_ids` names every
    source's topic; `origin` gives, for topics that are new to the ledger, the offset of each partition
    at which their history starts, `losses` what is missing in it. Raises TopicRecreatedError, and
    ProtocolError for what the catalog lacks.
    """
    check_topics(ledger, topic_ids)
    known = {**ledger.definitions, **definitions}
    for fingerprint, definition in definitions.items():
        if definition["source"] not in sources:
            raise ProtocolError("UNKNOWN_SOURCE", source=definition["source"], fingerprint=fingerprint)
    for fingerprint in wanted.values():
        if fingerprint not in known:
            raise ProtocolError("UNKNOWN_DEFINITION", fingerprint=fingerprint)
    topics = {str(source["topic"]) for source in sources.values()}
    fresh = topics - set(ledger.topic_ids)
    for topic in sorted(fresh):
        if topic not in topic_ids or topic not in origin.topics():
            raise ProtocolError("NO_ORIGIN", topic=topic)
    former = {
        fingerprint: ledger.source_of(fingerprint)
        for fingerprint in ledger.definitions
        if fingerprint not in definitions
        and sources.get(ledger.definitions[fingerprint]["source"]) != ledger.source_of(fingerprint)
    }
    registered = replace(
        ledger,
        sources=dict(sources),
        former_sources=former,
        definitions=known,
        wanted=dict(wanted),
        quarantined={f: e for f, e in ledger.quarantined.items() if f in wanted.values() and e["view"] not in retry},
        topic_ids={**ledger.topic_ids, **{topic: topic_ids[topic] for topic in fresh}},
        losses=merge_losses(ledger.losses, losses),
    )
    return prune(_without(_start(registered, origin.restrict(fresh))))


def quarantine(ledger: Ledger, layer: str, token: int, failed: Mapping[str, str], at: float) -> Ledger:
    """Takes views that fail, {fingerprint: reason}, out of every generation and of what is live and wanted.

    Where another definition is answered under the view's name, that one goes on. Versions keep what they hold. What
    the ledger no longer carries is passed over. Raises FenceError.
    """
    ledger.check_fence(layer, token)
    carried = {*ledger.next_definitions, *(f for generation in ledger.generations for f in generation.definitions)}
    entries = {
        fingerprint: {
            "view": ledger.definition(fingerprint)["name"],
            "reason": reason,
            "layer": layer,
            "cut": ledger.committed.to_json(),
            "at": at,
        }
        for fingerprint, reason in failed.items()
        if fingerprint in carried
    }
    return prune(_without(replace(ledger, quarantined={**ledger.quarantined, **entries})))


def _without(ledger: Ledger) -> Ledger:
    """The ledger whose generations, live and wanted views have nothing that is quarantined."""
    out = ledger.quarantined
    if not out:
        return ledger
    live = {name: fingerprint for name, fingerprint in ledger.live.items() if fingerprint not in out}
    wanted = {
        name: live.get(name, fingerprint) if fingerprint in out else fingerprint
        for name, fingerprint in ledger.wanted.items()
        if fingerprint not in out or _goes_on(ledger, live.get(name))
    }
    return replace(
        ledger,
        live=live,
        wanted=wanted,
        generations=tuple(
            replace(generation, definitions=tuple(f for f in generation.definitions if f not in out))
            for generation in ledger.generations
        ),
    )


def still_quarantined(ledger: Ledger, live: Mapping[str, str]) -> dict[str, Json]:
    """What stays in quarantine where `live` takes the place of what is live: not where another definition goes live."""
    return {
        fingerprint: entry
        for fingerprint, entry in ledger.quarantined.items()
        if live.get(entry["view"]) in (None, ledger.live.get(entry["view"]))
    }


def _goes_on(ledger: Ledger, fingerprint: str | None) -> bool:
    """Whether a definition that is live can stay wanted: not over a source that has been declared anew."""
    if fingerprint is None:
        return False
    return ledger.source_of(fingerprint) == ledger.sources.get(ledger.definition(fingerprint)["source"])


def _start(ledger: Ledger, start: Cut) -> Ledger:
    """Every cut of the ledger with new topics standing at their origin: nothing of them was read."""
    return replace(
        ledger,
        origin=ledger.origin.advance(start),
        committed=ledger.committed.advance(start),
        archived=ledger.archived.advance(start),
        generations=tuple(
            replace(g, begin=g.begin.advance(start), end=None if g.end is None else g.end.advance(start))
            for g in ledger.generations
        ),
        versions=tuple(replace(version, cut=version.cut.advance(start)) for version in ledger.versions),
    )


def check_topics(ledger: Ledger, topic_ids: Mapping[str, str]) -> None:
    """Raises TopicRecreatedError where a topic that the ledger knows has another id now (invariant 7)."""
    for topic, found in topic_ids.items():
        expected = ledger.topic_ids.get(topic, found)
        if found != expected:
            raise TopicRecreatedError("TOPIC_RECREATED", topic=topic, found=found, expected=expected)


def prune(ledger: Ledger) -> Ledger:
    """The ledger without definitions that nothing refers to any more."""
    used = {*ledger.wanted.values(), *ledger.live.values(), *ledger.quarantined}
    used.update(fingerprint for generation in ledger.generations for fingerprint in generation.definitions)
    used.update(fingerprint for version in ledger.versions for fingerprint in version.views)
    return replace(
        ledger,
        definitions={f: definition for f, definition in ledger.definitions.items() if f in used},
        former_sources={f: source for f, source in ledger.former_sources.items() if f in used},
    )
