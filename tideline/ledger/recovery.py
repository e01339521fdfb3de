"""Going on after records were lost: what the speed layer committed beyond the last version is given up."""

from __future__ import annotations

from collections.abc import Iterable
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
    master no longer holds all that was published, everything goes back to the origin. Answers stay exact at their
    cut, which falls. The holder of both fences alone may do this. Raises FenceError.
    """
    ledger.check_fence("speed", speed_token)
    ledger.check_fence("batch", batch_token)
    archived = archived.complete(ledger.origin)
    kept = archived.covers(ledger.version.cut)
    empty = Version(ledger.version.id + 1, ledger.origin, floors=ledger.version.floors)
    versions = ledger.versions if kept else (empty,)
    begin = versions[-1].cut
    opened = Generation(ledger.next_generation, begin, None, ledger.next_definitions)
    return prune(
        replace(
            ledger,
            committed=begin,
            archived=archived,
            versions=versions,
            segments=ledger.segments if kept else {},
            generations=(opened,),
            next_generation=ledger.next_generation + 1,
            losses=merge_losses(ledger.losses, losses),
        )
    )
