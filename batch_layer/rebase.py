"""Going on under topics that were made anew: on another cluster, or in the place of those that were deleted.

The new log goes on where the old one ended. Every record that is known keeps its order and its distance from the
others, and gets a place before the new log's first record: offsets are shifted, partition by partition, in the master
and in the ledger, and fall below zero where the new log begins at zero. So a cut stays a position in the log that
Kafka has, and nothing else needs to know. What was committed and not archived stayed behind in the old log, and is
entered as lost. The recovery and the batch run that follow build every view from the master.

Both layers are down, and their fences taken. Each step can be run again after a crash: a master that was moved says by
how much.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from batch_layer.master import Master
from batch_layer.parts import Engine
from tideline.cut import Cut
from tideline.errors import LostLogError
from tideline.ledger import Ledger
from tideline.plans import plan_sources
from tideline.points import reach
from tideline.stores import Store

Shift = Mapping[int, int]
"""What is added to the offsets of each partition."""


def rebase(store: Store, engine: Engine) -> None:
    """Moves what is known before the logs of the topics whose ids are new; does nothing where none is.

    Raises LostLogError PARTITIONS_GONE, COPIED_LOG, KafkaFault; then all is as it was.
    """
    reach("rebase.fence")
    with store.write() as txn:
        fenced, speed = txn.ledger.take_fence("speed")
        ledger, batch = fenced.take_fence("batch")
        txn.put_ledger(ledger)
    ids = engine.topic_ids(ledger.topic_ids)
    moved = sorted(topic for topic, id in ledger.topic_ids.items() if ids[topic] != id)
    masters = [
        Master(engine.table(plan.source, ledger.origin), plan.source, ledger.origin)
        for plan in plan_sources(ledger, ())
        if plan.source.topic in moved
    ]
    starts, ends = engine.log_bounds(moved)
    shifts = {topic: _shift(ledger, topic, [m for m in masters if m.topic == topic], starts) for topic in moved}
    waiting = [master for master in masters if not master.is_moved]
    for master in waiting:
        _refuse_copies(master, starts, ends)
    for master in waiting:
        known = Cut({master.topic: {p: starts.offset(master.topic, p) - n for p, n in shifts[master.topic].items()}})
        master.lose(known)
        master.move(shifts[master.topic])
    reach("rebase")
    with store.write() as txn:
        txn.put_ledger(txn.ledger.rebase(speed, batch, shifts, ids))


def _shift(ledger: Ledger, topic: str, masters: Iterable[Master], starts: Cut) -> Shift:
    """From the end of what is known of a topic to the beginning of its new log."""
    known = ledger.committed.restrict([topic])
    for master in masters:
        if master.is_moved:
            return master.shift
        known = known.advance(master.archived)
    begins = starts.offsets(topic)
    for partition, end in known.offsets(topic).items():
        if partition not in begins:
            raise LostLogError("PARTITIONS_GONE", topic=topic, partition=partition, end=end, found=len(begins))
    return {partition: begin - known.offset(topic, partition) for partition, begin in begins.items()}


def _refuse_copies(master: Master, starts: Cut, ends: Cut) -> None:
    """Raises LostLogError where a partition of the new log begins with records that the master holds."""
    for partition, begin in starts.offsets(master.topic).items():
        end = min(begin + 10, ends.offset(master.topic, partition))
        first = Cut({master.topic: {partition: begin}}), Cut({master.topic: {partition: end}})
        if end > begin and master.table.holds_all(*first):
            raise LostLogError("COPIED_LOG", topic=master.topic, partition=partition, begin=begin)
