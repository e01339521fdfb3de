"""What a catalog would change in an installation, and making it so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tideline.cut import Cut
from tideline.definition import ViewDefinition
from tideline.ledger import Ledger
from tideline.runtime.topics import create_topic, log_start_offsets
from tideline.source import SourceDefinition
from tideline.stores import Store

if TYPE_CHECKING:
    from tideline.spark.resolve import Resolved


@dataclass(frozen=True)
class Change:
    """One line of a plan: what happens to a source or view. `action` is build, rebuild, update, keep or drop."""

    kind: str
    name: str
    action: str
    why: str

    def to_json(self) -> dict[str, str]:
        return {"kind": self.kind, "name": self.name, "action": self.action, "why": self.why}


def plan_changes(ledger: Ledger, resolved: Resolved) -> list[Change]:
    """What applying a catalog would do, sources first."""
    changes = []
    for name, source in resolved.sources.items():
        before = ledger.sources.get(name)
        action, why = ("build", "new") if before is None else ("keep", "as it is")
        if before is not None and SourceDefinition.from_json(before) != source:
            action, why = "rebuild", "its declaration changed: the next batch run decodes the master again"
        changes.append(Change("source", name, action, why))
    changes += [
        Change("source", name, "drop", "not in the catalog") for name in ledger.sources if name not in resolved.sources
    ]
    for name, view in resolved.views.items():
        changes.append(Change("view", name, *_view_change(ledger, view)))
    changes += [
        Change("view", name, "drop", "not in the catalog") for name in ledger.wanted if name not in resolved.views
    ]
    return changes


def _view_change(ledger: Ledger, view: ViewDefinition) -> tuple[str, str]:
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


def apply_catalog(store: Store, resolved: Resolved, bootstrap: str, partitions: int) -> list[Change]:
    """Registers a catalog, making the topics that do not exist; what changed.

    The next seal brings it into force; on an empty installation that is now. Raises KafkaFault, TopicRecreatedError.
    """
    topics = sorted({source.topic for source in resolved.sources.values()})
    ids = {topic: create_topic(bootstrap, topic, partitions) for topic in topics}
    origin = Cut(log_start_offsets(bootstrap, topics))
    sources = {name: source.to_json() for name, source in resolved.sources.items()}
    definitions = {view.fingerprint: view.to_json() for view in resolved.views.values()}
    wanted = {name: view.fingerprint for name, view in resolved.views.items()}
    with store.write() as txn:
        changes = plan_changes(txn.ledger, resolved)
        ledger = txn.ledger.apply(sources, definitions, wanted, ids, origin)
        if not ledger.open.definitions and ledger.committed == ledger.sealed:
            ledger = ledger.seal(ledger.fences["batch"])
        txn.put_ledger(ledger)
    return changes
