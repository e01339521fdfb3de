"""Going on after records were lost: what the speed layer committed beyond the last version is given up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from tideline.cut import Cut
from tideline.ledger.parts import Generation, Loss, Version, merge_losses
from tideline.ledger.registry import prune

if TYPE_CHECKING:
    from tideline.ledger.state import Ledger


def recover(ledger: Ledger, speed_token: int, batch_token: int, archived: Cut, losses: Iterable[Loss]) -> Ledger:
    """Goes back to the last version, with the master as the truth of what is archived, and enters the losses.

    Generations are dropped: the next batch run reads what they covered from the master, and from Kafka. Where the
    master no longer holds all that was published, or some of it is lost, everything goes back to the origin. Answers
    stay exact at their cut, which falls. The holder of both fences alone may do this. Raises FenceError.
    """
    ledger.check_fence("speed", speed_token)
    ledger.check_fence("batch", batch_token)
    archived = archived.complete(ledger.origin)
    losses = tuple(losses)
    whole = archived.covers(ledger.version.cut) and not publishes_any(ledger, losses)
    kept = ledger if whole else _emptied(ledger)
    begin = kept.version.cut
    opened = Generation(ledger.next_generation, begin, None, ledger.next_definitions)
    return prune(
        replace(
            kept,
            committed=begin,
            archived=archived,
            generations=(opened,),
            next_generation=ledger.next_generation + 1,
            losses=merge_losses(ledger.losses, losses),
        )
    )


def publishes_any(ledger: Ledger, losses: Iterable[Loss]) -> bool:
    """Whether the last version counts some of what is newly lost: it was archived once, and taken back."""
    cut = ledger.version.cut
    return any(loss.begin < cut.offset(loss.topic, loss.partition) for loss in losses if loss not in ledger.losses)


def rebase(
    ledger: Ledger,
    speed_token: int,
    batch_token: int,
    shifts: Mapping[str, Mapping[int, int]],
    topic_ids: Mapping[str, str],
) -> Ledger:
    """Goes on under topics made anew, once the master has been moved: everything goes back to an origin that moved too.

    `shifts` is what is added to the offsets of each topic's partitions. The holder of both fences alone may do this.
    Raises FenceError.
    """
    origin = ledger.origin
    for topic, by in shifts.items():
        origin = origin.shift(topic, by)
    losses = tuple(loss.shift(shifts.get(loss.topic, {})) for loss in ledger.losses)
    moved = replace(_emptied(replace(ledger, origin=origin)), topic_ids=topic_ids, losses=losses)
    return recover(moved, speed_token, batch_token, origin, ())


def _emptied(ledger: Ledger) -> Ledger:
    """With an empty version at the origin alone."""
    empty = Version(ledger.version.id + 1, ledger.origin, floors=ledger.version.floors, kept=ledger.version.kept)
    return replace(ledger, versions=(empty,), segments={})
