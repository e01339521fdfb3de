"""The ledger itself: its fields, what can be read off them, and its form in JSON."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tideline.cut import EMPTY_CUT, Cut
from tideline.errors import FenceError, ProtocolError, StoreError, UsageError
from tideline.ledger import handoff, recovery, registry, speed
from tideline.ledger.parts import Generation, Log, LogStats, Loss, Segment, Version, merge_logs

FORMAT = 1
LAYERS = ("speed", "batch")


@dataclass(frozen=True)
class Ledger:
    """All that a reader or a writer needs to know; always replaced as a whole.

    A cut that a transition is given may leave out topics: they stand at their origin.

    What holds of every ledger that its transitions made: the oldest generation begins at the last
    version's cut, each next one where the one before ends, and the last is open and reaches to
    `committed`; `live` views are answerable, from the last version's segments and from every generation;
    `wanted` is what `apply` proposed last. `quarantined` says by fingerprint which views failed: their `view`,
    `reason`, `layer`, committed `cut`, and `at`, in seconds since the epoch; no generation carries them.
    """

    installation: str
    format: int = FORMAT
    sources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    former_sources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    topic_ids: Mapping[str, str] = field(default_factory=dict)
    definitions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    wanted: Mapping[str, str] = field(default_factory=dict)
    live: Mapping[str, str] = field(default_factory=dict)
    committed: Cut = EMPTY_CUT
    archived: Cut = EMPTY_CUT
    origin: Cut = EMPTY_CUT
    generations: tuple[Generation, ...] = (Generation(1, EMPTY_CUT, None, ()),)
    versions: tuple[Version, ...] = (Version(0, EMPTY_CUT),)
    segments: Mapping[int, Segment] = field(default_factory=dict)
    next_segment: int = 1
    next_generation: int = 2
    fences: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(LAYERS, 0))
    quarantined: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    last_batch: Mapping[str, Any] | None = None
    losses: tuple[Loss, ...] = ()

    @classmethod
    def create(cls, installation: str) -> Ledger:
        """The ledger of a new installation: nothing registered, the empty version 0, one open generation."""
        return cls(installation)

    # What can be read off it.

    @property
    def open(self) -> Generation:
        """The generation that the next commit goes to."""
        return self.generations[-1]

    @property
    def version(self) -> Version:
        """The last published version; version 0, before any publish, holds nothing."""
        return self.versions[-1]

    @property
    def sealed(self) -> Cut:
        """Where the open generation begins: the furthest cut that can be published."""
        return self.open.begin

    @property
    def next_definitions(self) -> tuple[str, ...]:
        """The set that a seal brings into force: what is live and what is wanted, sorted fingerprints."""
        return tuple(sorted({*self.live.values(), *self.wanted.values()}))

    @property
    def settled(self) -> bool:
        """Whether a batch run has nothing to do: all committed events published, the wanted views live."""
        return (
            self.committed == self.version.cut
            and self.live == self.wanted
            and self.open.definitions == self.next_definitions
        )

    @property
    def unbuilt(self) -> dict[str, str]:
        """{name: fingerprint} of the views that a batch run builds in full: wanted, in force, not live."""
        return {
            name: fingerprint
            for name, fingerprint in self.wanted.items()
            if self.live.get(name) != fingerprint and fingerprint in self.open.definitions
        }

    def fingerprint(self, view: str) -> str:
        """The fingerprint under which a view is answered. Raises UsageError with the views that are."""
        if view not in self.live:
            raise UsageError("UNKNOWN_VIEW", view=view, known=sorted(self.live))
        return self.live[view]

    def source_of(self, fingerprint: str) -> Mapping[str, Any]:
        """The source definition under which a view was defined; an older one until the view is replaced."""
        former = self.former_sources.get(fingerprint)
        return former if former is not None else self.sources[self.definition(fingerprint)["source"]]

    def topic_of(self, fingerprint: str) -> str:
        """The topic that a view is over."""
        return str(self.source_of(fingerprint)["topic"])

    def definition(self, fingerprint: str) -> Mapping[str, Any]:
        """A view's definition. Raises ProtocolError where the ledger holds none."""
        if fingerprint not in self.definitions:
            raise ProtocolError("UNKNOWN_DEFINITION", fingerprint=fingerprint)
        return self.definitions[fingerprint]

    def find_version(self, version: int) -> Version:
        """A retained version. Raises UsageError with those that are."""
        for found in self.versions:
            if found.id == version:
                return found
        raise UsageError("UNKNOWN_VERSION", version=version, known=[found.id for found in self.versions])

    def log(self) -> dict[str, dict[int, LogStats]]:
        """Statistics of everything between the origin and the committed cut, by topic and partition."""
        total = merge_logs(self.version.log, {})
        for generation in self.generations:
            total = merge_logs(total, generation.log)
        return total

    def rejects(self, fingerprint: str) -> int:
        """Events before the committed cut that a view's row expressions failed on."""
        counts = [self.version.rejects, *(generation.rejects for generation in self.generations)]
        return sum(count.get(fingerprint, 0) for count in counts)

    def spaces(self) -> frozenset[str]:
        """Every space of the store that the ledger names; any other holds nothing that is answered."""
        speed_spaces = {g.space(fingerprint) for g in self.generations for fingerprint in g.definitions}
        return frozenset(speed_spaces | {segment.space for segment in self.segments.values()})

    # Transitions. Their rules stand with the functions of the same name.

    def apply(
        self,
        sources: Mapping[str, Mapping[str, Any]],
        definitions: Mapping[str, Mapping[str, Any]],
        wanted: Mapping[str, str],
        topic_ids: Mapping[str, str],
        origin: Cut = EMPTY_CUT,
        retry: Collection[str] = (),
        losses: Iterable[Loss] = (),
    ) -> Ledger:
        return registry.apply(self, sources, definitions, wanted, topic_ids, origin, retry, losses)

    def quarantine(self, layer: str, token: int, failed: Mapping[str, str], at: float) -> Ledger:
        return registry.quarantine(self, layer, token, failed, at)

    def check_topics(self, topic_ids: Mapping[str, str]) -> None:
        registry.check_topics(self, topic_ids)

    def take_fence(self, layer: str) -> tuple[Ledger, int]:
        """The layer's next fence; every older token of that layer is refused from here on (invariant 9)."""
        if layer not in LAYERS:
            raise ProtocolError("UNKNOWN_LAYER", layer=layer, known=list(LAYERS))
        token = self.fences.get(layer, 0) + 1
        return replace(self, fences={**self.fences, layer: token}), token

    def check_fence(self, layer: str, token: int) -> None:
        """Raises FenceError unless `token` is the layer's last one."""
        if self.fences.get(layer, 0) != token:
            raise FenceError("FENCED", layer=layer, token=token, current=self.fences.get(layer, 0))

    def next_range(self, begin: Cut, end: Cut) -> tuple[Cut, Cut]:
        return speed.next_range(self, begin, end)

    def commit(
        self,
        token: int,
        begin: Cut,
        end: Cut,
        definitions: Iterable[str],
        log: Log,
        rejects: Mapping[str, int] | None = None,
    ) -> Ledger:
        return speed.commit(self, token, begin, end, definitions, log, rejects or {})

    def overtake(self, token: int, end: Cut, log: Log, rejects: Mapping[str, int] | None = None) -> Ledger:
        return speed.overtake(self, token, end, log, rejects or {})

    def seal(self, token: int) -> Ledger:
        return handoff.seal(self, token)

    def archive(self, token: int, end: Cut, sources: Mapping[str, Mapping[str, Any]]) -> Ledger:
        return handoff.archive(self, token, end, sources)

    def allot(self, token: int, count: int) -> tuple[Ledger, tuple[int, ...]]:
        return handoff.allot(self, token, count)

    def publish(
        self,
        token: int,
        cut: Cut,
        views: Mapping[str, Iterable[int]],
        segments: Collection[Segment],
        log: Log,
        *,
        rejects: Mapping[str, int] | None = None,
        floors: Mapping[str, int] | None = None,
        published_at: float = 0.0,
        last_batch: Mapping[str, Any] | None = None,
        losses: Iterable[Loss] = (),
        keep_versions: int = 3,
    ) -> Ledger:
        pieces = handoff.Pieces(
            cut, views, segments, log, rejects or {}, floors or {}, published_at, last_batch, losses
        )
        return handoff.publish(self, token, pieces, keep_versions)

    def recover(self, speed_token: int, batch_token: int, archived: Cut, losses: Iterable[Loss]) -> Ledger:
        return recovery.recover(self, speed_token, batch_token, archived, losses)

    def rebase(
        self,
        speed_token: int,
        batch_token: int,
        shifts: Mapping[str, Mapping[int, int]],
        topic_ids: Mapping[str, str],
    ) -> Ledger:
        return recovery.rebase(self, speed_token, batch_token, shifts, topic_ids)

    def expire(self, token: int, keep_versions: int) -> Ledger:
        return handoff.expire(self, token, keep_versions)

    # Its form in JSON.

    def to_json(self) -> dict[str, Any]:
        return {
            "format": self.format,
            "installation": self.installation,
            "sources": dict(self.sources),
            "former_sources": dict(self.former_sources),
            "topic_ids": dict(self.topic_ids),
            "definitions": dict(self.definitions),
            "wanted": dict(self.wanted),
            "live": dict(self.live),
            "committed": self.committed.to_json(),
            "archived": self.archived.to_json(),
            "origin": self.origin.to_json(),
            "generations": [generation.to_json() for generation in self.generations],
            "versions": [version.to_json() for version in self.versions],
            "segments": [segment.to_json() for segment in self.segments.values()],
            "next_segment": self.next_segment,
            "next_generation": self.next_generation,
            "fences": dict(self.fences),
            "quarantined": dict(self.quarantined),
            "last_batch": self.last_batch,
            "losses": [loss.to_json() for loss in self.losses],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], known: tuple[Mapping[str, Any], Ledger] | None = None) -> Ledger:
        """The ledger that `to_json` described. Raises StoreError for a format of another release.

        `known` are the JSON of another ledger and the ledger: what both have in common is not made again, which is
        nearly all of it from one commit to the next.
        """
        if data.get("format") != FORMAT:
            raise StoreError("LEDGER_FORMAT", found=data.get("format"), known=FORMAT)
        before, ledger = known or ({}, None)
        made = {
            name: getattr(ledger, name) if name in before and before[name] == value else read(value)
            for name, value in data.items()
            if (read := _READ.get(name))
        }
        return cls(**{**data, **made})


_READ: Mapping[str, Callable[[Any], Any]] = {
    "committed": Cut.from_json,
    "archived": Cut.from_json,
    "origin": Cut.from_json,
    "generations": lambda items: tuple(map(Generation.from_json, items)),
    "versions": lambda items: tuple(map(Version.from_json, items)),
    "segments": lambda items: {segment.id: segment for segment in map(Segment.from_json, items)},
    "losses": lambda items: tuple(map(Loss.from_json, items)),
}
"""How the fields that are not plain JSON are read."""
