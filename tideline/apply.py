"""What a catalog would change in an installation, and making it so."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tideline.cut import Cut
from tideline.definition import ViewDefinition, fingerprint
from tideline.delta_log import commits
from tideline.erased import Erased
from tideline.errors import UsageError
from tideline.ledger import Ledger, Loss
from tideline.narrowing import Narrower, narrower
from tideline.runtime.topics import create_topic, log_start_offsets
from tideline.source import SourceDefinition
from tideline.stores import Store
from tideline.stores.base import WriteTransaction

if TYPE_CHECKING:
    from tideline.spark.resolve import Resolved


@dataclass(frozen=True)
class Change:
    """One line of a plan: what happens to a source, column or view.

    `action` is build, rebuild, update, keep, drop, quarantined, retry or, of a
    column, narrow.
    """

    kind: str
    name: str
    action: str
    why: str

    def to_json(self) -> dict[str, str]:
        return {"kind": self.kind, "name": self.name, "action": self.action, "why": self.why}


def plan_changes(ledger: Ledger, resolved: Resolved, retry: Collection[str] = ()) -> list[Change]:
    """What applying a catalog would do, sources first; `retry` names views to be taken out of quarantine."""
    resolved = keep_erased(ledger, resolved)
    changes = []
    for name, source in resolved.sources.items():
        before = ledger.sources.get(name)
        action, why = ("build", "new") if before is None else ("keep", "as it is")
        if before is not None and SourceDefinition.from_json(before) != source:
            action, why = "rebuild", "its declaration changed: the next batch run decodes the master again"
        changes.append(Change("source", name, action, why))
        changes += [
            Change("column", f"{name}.{loss.column}", "narrow", f"{loss}: refused without --accept-narrower")
            for loss in _losses(ledger, source)
        ]
    for name in ledger.sources:
        if name not in resolved.sources:
            changes.append(Change("source", name, "keep", "not in the catalog: its records go on to be archived"))
    for name, view in resolved.views.items():
        changes.append(Change("view", name, *_view_change(ledger, view, name in retry)))
    changes += [
        Change("view", name, "drop", "not in the catalog") for name in ledger.wanted if name not in resolved.views
    ]
    return changes


def keep_erased(ledger: Ledger, resolved: Resolved, master: Path | None = None) -> Resolved:
    """A catalog's definitions with the ids that were erased from its sources, which no catalog lists.

    Of a source that the ledger does not know they are read from its master, if there is one.
    """
    sources = {}
    for name, source in resolved.sources.items():
        known: Mapping[str, Any] = ledger.sources.get(name) or (archived_metadata(master / name) if master else {})
        erased = Erased.from_json(known["erased"]) if known.get("erased") else None
        sources[name] = replace(source, erased=erased)
    return replace(resolved, sources=sources, views=redefined(resolved.views, sources))


def redefined(
    views: Mapping[str, ViewDefinition], sources: Mapping[str, SourceDefinition]
) -> dict[str, ViewDefinition]:
    """The views under the fingerprints that they have over these sources."""
    return {name: replace(view, fingerprint=fingerprint(view, sources[view.source])) for name, view in views.items()}


def _losses(ledger: Ledger, source: SourceDefinition) -> list[Narrower]:
    before = ledger.sources.get(source.name)
    return [] if before is None else narrower(SourceDefinition.from_json(before), source)


def _view_change(ledger: Ledger, view: ViewDefinition, retried: bool) -> tuple[str, str]:
    failed = ledger.quarantined.get(view.fingerprint)
    if failed is not None:
        reason = f"it failed in the {failed['layer']} layer: {failed['reason']}"
        return ("retry", reason) if retried else ("quarantined", f"{reason}; --retry {view.name} builds it again")
    before = ledger.wanted.get(view.name)
    if before is None:
        return "build", "new"
    if before != view.fingerprint:
        return "rebuild", f"computes something else than {before}, which answers until {view.fingerprint} is published"
    if _kept(ledger.definition(before)) != _kept(view.to_json()):
        return "update", "only its answers or its retention changed"
    return "keep", "as it is"


def _kept(view: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(view[name] for name in ("answers", "keep"))


def apply_catalog(
    store: Store,
    resolved: Resolved,
    bootstrap: str,
    partitions: int,
    master: Path,
    accept_narrower: bool = False,
    retry: Collection[str] = (),
) -> list[Change]:
    """Registers a catalog, making the topics that do not exist; what changed.

    Sources that the catalog leaves out stay. The next seal brings it into force; on an empty installation that is
    now. Views in `retry` leave the quarantine. Raises KafkaFault, TopicRecreatedError, UsageError TOPIC_CHANGED,
    COLUMN_DROPPED, COLUMN_NARROWER, NOT_QUARANTINED.
    """
    with store.snapshot() as snapshot:
        kept = {name: source for name, source in snapshot.ledger.sources.items() if name not in resolved.sources}
        _refuse_other_topics(snapshot.ledger, resolved)
        if not accept_narrower:
            _refuse_losses(snapshot.ledger, resolved)
        _refuse_others(snapshot.ledger, retry)
    topics = sorted({source.topic for source in resolved.sources.values()} | {str(s["topic"]) for s in kept.values()})
    ids = {topic: create_topic(bootstrap, topic, partitions) for topic in topics}
    origin, losses = Cut(log_start_offsets(bootstrap, topics)), []
    for name in resolved.sources:
        # A store that was lost is built again from the master, whose history may begin before Kafka's.
        origin = archived_origin(master / name).complete(origin)
        losses += archived_losses(master / name)
    with store.write() as txn:
        changes = plan_changes(txn.ledger, resolved, retry)
        resolved = keep_erased(txn.ledger, resolved, master)
        kept = {name: source for name, source in txn.ledger.sources.items() if name not in resolved.sources}
        sources = {**kept, **{name: source.to_json() for name, source in resolved.sources.items()}}
        register(txn, sources, resolved.views.values(), ids, origin, retry, losses)
    return changes


def register(
    txn: WriteTransaction,
    sources: Mapping[str, Mapping[str, Any]],
    views: Iterable[ViewDefinition],
    topic_ids: Mapping[str, str],
    origin: Cut,
    retry: Collection[str] = (),
    losses: Iterable[Loss] = (),
) -> None:
    """Enters sources and views into the ledger, and brings them into force where nothing is in force yet."""
    definitions = {view.fingerprint: view for view in views}
    wanted = {view.name: fingerprint for fingerprint, view in definitions.items()}
    plain = {fingerprint: view.to_json() for fingerprint, view in definitions.items()}
    ledger = txn.ledger.apply(sources, plain, wanted, topic_ids, origin, retry, losses)
    if not ledger.open.definitions and ledger.committed == ledger.sealed:
        ledger = ledger.seal(ledger.fences["batch"])
    txn.put_ledger(ledger)


def _refuse_other_topics(ledger: Ledger, resolved: Resolved) -> None:
    """Raises UsageError where a known source names another topic: its master holds the offsets of the first."""
    for name, source in resolved.sources.items():
        before = ledger.sources.get(name)
        if before is not None and before["topic"] != source.topic:
            raise UsageError(
                "TOPIC_CHANGED",
                f"source {name} is over topic {before['topic']}, not {source.topic}",
                "declare a source of another name for another topic",
                source=name,
                topic=source.topic,
                known=before["topic"],
            )


def _refuse_others(ledger: Ledger, retry: Collection[str]) -> None:
    """Raises UsageError where a view to be tried again is not quarantined."""
    known = {str(entry["view"]) for entry in ledger.quarantined.values()}
    for name in retry:
        if name not in known:
            raise UsageError(
                "NOT_QUARANTINED",
                f"view {name} is not quarantined",
                f"views that are: {', '.join(sorted(known)) or 'none'}",
                view=name,
                known=sorted(known),
            )


def _refuse_losses(ledger: Ledger, resolved: Resolved) -> None:
    """Raises UsageError where a known source drops a column, or gives it a type that takes fewer values."""
    for source in resolved.sources.values():
        losses = _losses(ledger, source)
        if losses:
            first = losses[0]
            raise UsageError(
                first.condition,
                f"source {source.name}: {'; '.join(map(str, losses))}",
                "keep the column as it was, and declare the new one beside it under another name; or apply with "
                "--accept-narrower: the master keeps every record whole, so a later apply can take it back",
                source=source.name,
                column=first.column,
                before=first.before.sql,
                now=None if first.now is None else first.now.sql,
                columns=[loss.column for loss in losses],
            )


def archived_origin(table: Path) -> Cut:
    """Where a master dataset's history begins; the empty cut where there is none."""
    return Cut.from_json(archived_metadata(table).get("origin", {}))


def archived_metadata(table: Path) -> Mapping[str, Any]:
    """What the last commit of a master dataset says of it; nothing where there is none."""
    return next((commit.metadata for commit in commits(table) if "origin" in commit.metadata), {})


def archived_losses(table: Path) -> list[Loss]:
    """What is missing in a master dataset, as its log says."""
    return [Loss.from_json(loss) for loss in archived_metadata(table).get("losses", ())]
