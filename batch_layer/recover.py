"""Going on where a part of the log is gone: the last version stays, what followed is read again, what is lost is said.

Both layers are down, and their fences taken. What the speed layer counted beyond the last version is given up, and
with it whatever cannot be read again. What was archived beyond it is taken back where Kafka still holds it, so that
master and Kafka agree; offsets that are in neither are entered as lost, in the master's log and in the ledger. Each
step can be run again after a crash. The batch run that follows publishes the rest of the log.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from batch_layer.master import Master
from batch_layer.parts import Engine
from tideline.cut import Cut
from tideline.errors import LostLogError
from tideline.ledger import NO_RECORDS, Ledger, Loss
from tideline.plans import SourcePlan, plan_sources, topics
from tideline.points import reach
from tideline.stores import Store

log = logging.getLogger(__name__)


def recover(store: Store, engine: Engine) -> list[Loss]:
    """Mends an installation; what is newly lost. A batch run must follow.

    Raises TopicRecreatedError, and LostLogError LOG_REUSED where Kafka's log ends before what is archived.
    """
    reach("recover.fence")
    with store.write() as txn:
        fenced, speed = txn.ledger.take_fence("speed")
        ledger, batch = fenced.take_fence("batch")
        txn.put_ledger(ledger)
    ledger.check_topics(engine.topic_ids(topics(ledger)))
    starts, ends = engine.log_bounds(topics(ledger))
    losses: list[Loss] = []
    archived = Cut()
    for plan in plan_sources(ledger, ()):
        master = Master(engine.table(plan.source, ledger.origin), plan.source, ledger.origin)
        master.restore(ledger.version.cut, starts)
        master.fence()
        if not master.is_current(ledger.origin):
            master.redecode()
        _check_free(master, ends)
        master.lose(starts)
        master.archive(ledger.committed.least(master.topic, ends), lambda: None)
        losses += [*master.losses(), *_replaced(engine, ledger, master)]
        archived = archived.advance(master.archived)
    reach("recover")
    with store.write() as txn:
        txn.put_ledger(txn.ledger.recover(speed, batch, archived, losses))
    reach("recover.done")
    return [loss for loss in losses if loss not in ledger.losses]


def _check_free(master: Master, ends: Cut) -> None:
    """Raises LostLogError where the places that Kafka gives to its next records are taken."""
    for partition, known in master.archived.offsets(master.topic).items():
        end = ends.offset(master.topic, partition)
        if end < known:
            raise LostLogError("LOG_REUSED", topic=master.topic, partition=partition, end=end, known=known)


def _replaced(engine: Engine, ledger: Ledger, master: Master) -> Iterator[Loss]:
    """What the speed layer counted, and is something else in the master."""
    topic = master.topic
    master.is_current(ledger.archived)  # pins what the fold reads
    gone = {(loss.partition, loss.begin) for loss in master.losses()}
    for generation in ledger.generations:
        begin, end = generation.begin.restrict([topic]), (generation.end or ledger.committed).restrict([topic])
        if begin.reaches(topic, end):
            continue
        with engine.fold(SourcePlan(master.source, (), True), begin, end) as folded:
            for partition, stop in end.offsets(topic).items():
                start = begin.offset(topic, partition)
                counted = generation.log.get(topic, {}).get(partition, NO_RECORDS)
                found = folded.log.get(partition, NO_RECORDS)
                lost = any(here == partition and start <= first < stop for here, first in gone)
                if not lost and (counted.records, counted.checksum) != (found.records, found.checksum):
                    yield Loss(topic, partition, start, stop, "replaced", counted.records)
