"""The batch path's transitions: seal, archive, publish, expire (DESIGN section 3)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tideline.cut import Cut
from tideline.errors import (
    ChecksumError,
    DefinitionSetError,
    MissingViewError,
    ProtocolError,
    TilingError,
)
from tideline.ledger.parts import (
    NO_RECORDS,
    Generation,
    Log,
    Loss,
    Segment,
    Version,
    merge_logs,
    merge_losses,
)
from tideline.ledger.registry import prune, still_quarantined
from tideline.ledger.speed import close

if TYPE_CHECKING:
    from tideline.ledger.state import Ledger


@dataclass(frozen=True)
class Pieces:
    """What a publish brings: the fields of the new version, and the segments that are new with it."""

    cut: Cut
    views: Mapping[str, Iterable[int]]
    segments: Collection[Segment]
    log: Log
    rejects: Mapping[str, int]
    floors: Mapping[str, int]
    published_at: float
    last_batch: Mapping[str, Any] | None
    losses: Iterable[Loss] = ()


def seal(ledger: Ledger, token: int) -> Ledger:
    """Closes the open generation at the committed cut; the next commit finds the new one (invariant 3).

    The new generation's set is what is live and what is wanted, so a view goes on being folded until its
    successor is published. A view of whose topic nothing has been published is complete in the
    generations, and goes live at once. The same ledger where the open generation is empty and its set
    would not change.
    """
    ledger.check_fence("batch", token)
    if ledger.committed == ledger.sealed and ledger.open.definitions == ledger.next_definitions:
        return ledger
    return _start_views(close(ledger))


def _start_views(ledger: Ledger) -> Ledger:
    complete = {
        name: fingerprint
        for name, fingerprint in ledger.wanted.items()
        if _tiles(ledger, fingerprint, (), ledger.version.cut)
        and all(_holds(ledger, generation, fingerprint) for generation in ledger.generations)
    }
    live = {**ledger.live, **complete}
    return replace(ledger, live=live, quarantined=still_quarantined(ledger, live))


def archive(ledger: Ledger, token: int, end: Cut, sources: Mapping[str, Mapping[str, Any]]) -> Ledger:
    """Records that the master holds everything before `end`, read under `sources` (invariants 4 and 8).

    The master's own log is the truth: a cut that lies before the ledger's is refused. Raises FenceError,
    DefinitionSetError, ProtocolError.
    """
    ledger.check_fence("batch", token)
    if dict(sources) != dict(ledger.sources):
        raise DefinitionSetError("SOURCES_CHANGED", expected=sorted(ledger.sources), found=sorted(sources))
    end = end.complete(ledger.origin)
    if not end.covers(ledger.archived):
        raise ProtocolError("CUT_FALLS", found=str(end), current=str(ledger.archived))
    return replace(ledger, archived=ledger.archived.advance(end))


def allot(ledger: Ledger, token: int, count: int) -> tuple[Ledger, tuple[int, ...]]:
    """Ids for `count` new segments, never given before; stored before their states are loaded."""
    ledger.check_fence("batch", token)
    ids = tuple(range(ledger.next_segment, ledger.next_segment + count))
    return replace(ledger, next_segment=ledger.next_segment + count), ids


def publish(ledger: Ledger, token: int, pieces: Pieces, keep_versions: int) -> Ledger:
    """The hand-off: a version that covers everything before its cut, without the generations it covers.

    Refused unless the cut is where a generation begins and is archived (4, 5), the views' segments tile
    [origin, cut) (7), every view that stays live is there (5), every view that goes live is folded by
    every later generation, and the archive's records match what the expired generations counted (7).
    Floors never fall (11). What the archive lacks before the cut is a loss (7). A view that was withdrawn
    while it was built is left out. Raises FenceError, ProtocolError, TilingError, MissingViewError,
    DefinitionSetError, ChecksumError.
    """
    ledger.check_fence("batch", token)
    cut = pieces.cut.complete(ledger.origin)
    _check_cut(ledger, cut)
    expired = [generation for generation in ledger.generations if _before(generation, cut)]
    later = ledger.generations[len(expired) :]
    segments = _with_segments(ledger, pieces.segments)
    views = {f: tuple(ids) for f, ids in pieces.views.items() if f in ledger.definitions}
    for fingerprint, ids in views.items():
        check_tiling(ledger, fingerprint, [_segment(segments, id) for id in ids], cut)
    check_log_matches(ledger, expired, pieces.log, cut)
    live = _live_after(ledger, views, later, cut)
    floors = {**pieces.floors}
    for fingerprint, floor in ledger.version.floors.items():
        floors[fingerprint] = max(floor, floors.get(fingerprint, floor))
    version = Version(
        ledger.version.id + 1,
        cut,
        views,
        live,
        {fingerprint: floor for fingerprint, floor in floors.items() if fingerprint in views},
        merge_logs({}, pieces.log),
        dict(pieces.rejects),
        pieces.published_at,
        _kept(ledger, views),
    )
    published = replace(
        ledger,
        live=live,
        generations=later,
        versions=(*ledger.versions, version),
        segments=segments,
        quarantined=still_quarantined(ledger, live),
        losses=merge_losses(
            ledger.losses, (loss for loss in pieces.losses if loss.end <= cut.offset(loss.topic, loss.partition))
        ),
        last_batch=pieces.last_batch if pieces.last_batch is not None else ledger.last_batch,
    )
    return expire(published, token, keep_versions)


def _kept(ledger: Ledger, fingerprints: Iterable[str]) -> dict[str, int]:
    """The shortest retention of each view since it was built: a floor that rose by one stays where `keep` grows."""
    known = {f: (ledger.version.kept.get(f), ledger.definition(f).get("keep")) for f in fingerprints}
    return {f: min(keep for keep in found if keep is not None) for f, found in known.items() if set(found) != {None}}


def expire(ledger: Ledger, token: int, keep_versions: int) -> Ledger:
    """Keeps the last `keep_versions` versions; segments and definitions that nothing names any more go."""
    ledger.check_fence("batch", token)
    if keep_versions < 1:
        raise ProtocolError("KEEP_VERSIONS", keep=keep_versions)
    versions = ledger.versions[-keep_versions:]
    used = {id for version in versions for ids in version.views.values() for id in ids}
    segments = {id: segment for id, segment in ledger.segments.items() if id in used}
    return prune(replace(ledger, versions=versions, segments=segments))


def _check_cut(ledger: Ledger, cut: Cut) -> None:
    boundaries = [generation.begin for generation in ledger.generations]
    if cut not in boundaries:
        known = [str(boundary) for boundary in boundaries]
        raise ProtocolError("CUT_NOT_SEALED", cut=str(cut), known=known)
    for topic, partition, wanted in cut.partitions():
        archived = ledger.archived.offset(topic, partition)
        if archived < wanted:
            raise ProtocolError("NOT_ARCHIVED", topic=topic, partition=partition, archived=archived, wanted=wanted)


def _before(generation: Generation, cut: Cut) -> bool:
    return generation.end is not None and cut.covers(generation.end)


def _with_segments(ledger: Ledger, fresh: Collection[Segment]) -> dict[int, Segment]:
    segments = dict(ledger.segments)
    for segment in fresh:
        if segment.id in segments or not 0 < segment.id < ledger.next_segment:
            raise ProtocolError("SEGMENT_ID", segment=segment.id)
        segments[segment.id] = segment
    return segments


def _segment(segments: Mapping[int, Segment], id: int) -> Segment:
    if id not in segments:
        raise ProtocolError("UNKNOWN_SEGMENT", segment=id)
    return segments[id]


def _tiles(ledger: Ledger, fingerprint: str, segments: Collection[Segment], cut: Cut) -> bool:
    try:
        check_tiling(ledger, fingerprint, segments, cut)
    except TilingError:
        return False
    return True


def check_tiling(ledger: Ledger, fingerprint: str, segments: Collection[Segment], cut: Cut) -> None:
    """Raises TilingError unless the segments follow each other from origin to `cut` on the view's topic."""
    name = str(ledger.definition(fingerprint)["name"])
    topic = ledger.topic_of(fingerprint)
    place = ledger.origin.restrict([topic])
    for segment in segments:
        if segment.view != fingerprint:
            raise TilingError(
                "SEGMENT_OF_ANOTHER_VIEW",
                segment=segment.id,
                found=segment.view,
                view=name,
                fingerprint=fingerprint,
            )
        _check_joins(name, fingerprint, place, segment.begin.restrict([topic]))
        place = segment.end.restrict([topic])
    _check_joins(name, fingerprint, place, cut.restrict([topic]))


def _check_joins(view: str, fingerprint: str, expected: Cut, found: Cut) -> None:
    if expected != found:
        raise TilingError(
            "SEGMENTS_DO_NOT_TILE",
            view=view,
            fingerprint=fingerprint,
            expected=str(expected),
            found=str(found),
        )


def check_log_matches(ledger: Ledger, expired: Collection[Generation], log: Log, cut: Cut) -> None:
    """Raises ChecksumError unless `log` counts what the last version and the expired generations did."""
    expected: Log = ledger.version.log
    for generation in expired:
        expected = merge_logs(expected, generation.log)
    check_logs_agree(expected, log, cut)


def check_logs_agree(expected: Log, log: Log, cut: Cut) -> None:
    """Raises ChecksumError unless both hold as many records of each partition, with the same checksum."""
    for topic in sorted({*expected, *log}):
        mine, theirs = expected.get(topic, {}), log.get(topic, {})
        for partition in sorted({*mine, *theirs}):
            want, have = mine.get(partition, NO_RECORDS), theirs.get(partition, NO_RECORDS)
            if (want.records, want.checksum) != (have.records, have.checksum):
                raise ChecksumError(
                    "CHECKSUM",
                    topic=topic,
                    partition=partition,
                    expected_records=want.records,
                    found_records=have.records,
                    expected_checksum=want.checksum,
                    found_checksum=have.checksum,
                    cut=str(cut),
                )


def _live_after(
    ledger: Ledger, views: Mapping[str, tuple[int, ...]], later: Collection[Generation], cut: Cut
) -> dict[str, str]:
    live: dict[str, str] = {}
    for name, fingerprint in ledger.wanted.items():
        current = ledger.live.get(name)
        if fingerprint in views:
            live[name] = fingerprint
        elif current is not None and current in views:
            live[name] = current
        elif current is not None:
            raise MissingViewError("VIEW_NOT_PUBLISHED", view=name, fingerprint=current, cut=str(cut))
    for name, fingerprint in live.items():
        for generation in later:
            if not _holds(ledger, generation, fingerprint):
                raise DefinitionSetError(
                    "VIEW_NOT_FOLDED", view=name, fingerprint=fingerprint, generation=generation.id
                )
    return live


def _holds(ledger: Ledger, generation: Generation, fingerprint: str) -> bool:
    """Whether a generation has a view's states, or has and will have nothing of the view's topic."""
    if fingerprint in generation.definitions:
        return True
    topic = [ledger.topic_of(fingerprint)]
    return generation.end is not None and generation.begin.restrict(topic) == generation.end.restrict(topic)
