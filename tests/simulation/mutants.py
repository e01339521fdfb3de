"""Faults planted in the protocol, two or more for each invariant: every one must make the simulation fail.

A mutant is a piece of a module's text and what stands there instead. Chosen from the invariants, before it was known
which of them the simulation would find.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager

from planting import Mutant, in_place
from sim_run import run

SPEED, HANDOFF, STATE = "tideline.ledger.speed", "tideline.ledger.handoff", "tideline.ledger.state"
PARTS, REGISTRY, MERGE = "tideline.ledger.parts", "tideline.ledger.registry", "tideline.merge"
LAYER, RUN, MASTER, LOADING = "speed_layer.layer", "batch_layer.run", "batch_layer.master", "batch_layer.loading"
BASE, DUPLICATES = "tideline.stores.base", "tideline.duplicates"
RECOVER, RECOVERY = "batch_layer.recover", "tideline.ledger.recovery"

MUTANTS = [
    Mutant(
        "a cut is completed by going back",
        1,
        "tideline.cut",
        "        return Cut({**other._offsets, **self._offsets})",
        "        return Cut({**self._offsets, **other._offsets})",
        seed=13,
    ),
    Mutant(
        "a cut advances to the nearer position",
        1,
        "tideline.cut",
        "= max(mine.get(partition, offset), offset)",
        "= offset",
    ),
    Mutant(
        "a range that comes again is folded again",
        1,
        SPEED,
        "    return ledger.committed, ledger.committed.advance(end)",
        "    return begin.complete(ledger.origin), ledger.committed.advance(end)",
        without=("a commit may begin anywhere",),
    ),
    Mutant(
        "a commit may begin anywhere",
        2,
        SPEED,
        "    check_begin(ledger.committed, begin)\n",
        "",
        without=("an old fence is as good as a new one",),
    ),
    Mutant(
        "the cut is committed without the states",
        2,
        LAYER,
        "            written = _merge(txn, after.open, folded)\n",
        "            written = 0\n",
    ),
    Mutant(
        "states first, the cut in a transaction of its own",
        2,
        LAYER,
        "            txn.put_ledger(after)\n            self.folder.committed()\n            merged(after)\n",
        "            self.folder.committed()\n            merged(after)\n"
        '        reach("speed.commit")\n        with self.store.write() as txn:\n            txn.put_ledger(after)\n',
    ),
    Mutant("a gap is passed over", 2, SPEED, "        if found > offset:\n", "        if False:\n", seed=3),
    Mutant(
        "a seal keeps the old definitions",
        3,
        SPEED,
        "    opened = Generation(ledger.next_generation, ledger.committed, None, ledger.next_definitions)",
        "    opened = Generation(ledger.next_generation, ledger.committed, None, "
        "ledger.open.definitions or ledger.next_definitions)",
    ),
    Mutant(
        "a seal closes the generation where the last version ends",
        3,
        SPEED,
        "    ended = replace(ledger.open, end=ledger.committed)",
        "    ended = replace(ledger.open, end=ledger.version.cut)",
    ),
    Mutant(
        "the archived cut is the ledger's wish, not the master's log",
        4,
        RUN,
        "            archived = archived.advance(master.archived)\n",
        "            archived = archived.advance(ledger.committed)\n",
    ),
    Mutant(
        "archiving begins at the origin again",
        4,
        MASTER,
        "        total, head = 0, self._head()\n",
        "        total, head = 0, Held(self._head().version, {})\n",
    ),
    Mutant(
        "a chunk is recorded as the whole range",
        4,
        MASTER,
        '"end": begin.advance(stop).to_json()',
        '"end": begin.advance(end).to_json()',
    ),
    Mutant(
        "the speed layer takes the ledger's word for what the master holds",
        4,
        "tideline.held",
        "        return cut.restrict([topic]).least(topic, self.end(Cut()))",
        "        return cut.restrict([topic])",
        seed=107,
    ),
    Mutant(
        "ranges of the master need not join on",
        4,
        MASTER,
        'newer[1].get("whole", False) or Cut.from_json(begin) == Cut.from_json(end)',
        "True",
        seed=225,
    ),
    Mutant(
        "what is archived beyond the cut is computed too",
        4,
        RUN,
        "        with self.engine.fold(plan, begin, end) as folded:\n            log",
        "        with self.engine.fold(plan, begin, end.advance(ledger.archived)) as folded:\n            log",
        seed=1,
    ),
    Mutant(
        "published generations do not expire",
        5,
        HANDOFF,
        "    return generation.end is not None and cut.covers(generation.end)",
        "    return False",
    ),
    Mutant(
        "a publish expires one generation, whatever it covers",
        5,
        HANDOFF,
        "        generations=later,",
        "        generations=ledger.generations[1:],",
        seed=3,
    ),
    Mutant(
        "a publish leaves live what was live",
        5,
        HANDOFF,
        "        live=live,\n        generations",
        "        live=ledger.live,\n        generations",
    ),
    Mutant(
        "an answer reads the last generation alone",
        6,
        MERGE,
        "    for generation in ledger.generations:\n        if fingerprint in",
        "    for generation in ledger.generations[-1:]:\n        if fingerprint in",
    ),
    Mutant(
        "an older version is answered with today's segments",
        6,
        MERGE,
        "    found = ledger.version if version is None else ledger.find_version(version)\n    batch",
        "    found = ledger.version\n    batch",
        seed=1,
    ),
    Mutant(
        "topic ids are not compared",
        7,
        REGISTRY,
        "        if found != expected:\n",
        "        if False:\n",
        seed=5,
    ),
    Mutant(
        "checksums are not compared",
        7,
        HANDOFF,
        "            if (want.records, want.checksum) != (have.records, have.checksum):\n",
        "            if False:\n",
        seed=11,
    ),
    Mutant(
        "segments need not tile",
        7,
        HANDOFF,
        "        check_tiling(ledger, fingerprint, [_segment(segments, id) for id in ids], cut)\n    check_log",
        "        pass\n    check_log",
        without=("a segment replaces nothing that it was merged from",),
        seed=1,
    ),
    Mutant(
        "a segment replaces nothing that it was merged from",
        7,
        RUN,
        " if segment.id not in built.replaces]",
        "]",
        seed=1,
    ),
    Mutant(
        "a commit may carry other definitions",
        8,
        SPEED,
        "    if found != generation.definitions:\n",
        "    if False:\n",
    ),
    Mutant(
        "a former source declaration is forgotten",
        8,
        STATE,
        "        return former if former is not None else",
        "        return",
    ),
    Mutant(
        "an archive may be read under other declarations",
        8,
        RUN,
        "            if not master.is_current(ledger.archived):\n                raise",
        "            if False:\n                raise",
    ),
    Mutant(
        "a changed declaration does not decode the master again",
        8,
        RUN,
        "if redecode or not master.is_current(ledger.archived)]",
        "if redecode]",
        seed=10,
    ),
    Mutant(
        "an old fence is as good as a new one",
        9,
        STATE,
        "        if self.fences.get(layer, 0) != token:\n",
        "        if False:\n",
        without=("a commit may begin anywhere",),
    ),
    Mutant(
        "expiring drops what a later run loads",
        9,
        RUN,
        '            txn.ledger.check_fence("batch", self._token)  # another run may be loading\n',
        "",
        seed=41,
    ),
    Mutant(
        "a batch run overtakes without taking the speed layer's fence",
        9,
        RUN,
        '            ledger, token = txn.ledger.take_fence("speed")\n',
        '            ledger, token = txn.ledger, txn.ledger.fences["speed"]\n',
        seed=41,
    ),
    Mutant(
        "overtaking does not check what the speed layer committed meanwhile",
        9,
        SPEED,
        '    ledger.check_fence("speed", token)\n    end = end.complete(ledger.origin)\n    if not end.covers',
        "    end = end.complete(ledger.origin)\n    if not end.covers",
        seed=6,
    ),
    Mutant(
        "a recovery leaves the fences with those who have them",
        9,
        RECOVER,
        '        fenced, speed = txn.ledger.take_fence("speed")\n        ledger, batch = fenced.take_fence("batch")\n',
        '        ledger, speed, batch = txn.ledger, txn.ledger.fences["speed"], txn.ledger.fences["batch"]\n',
        without=("a commit may begin anywhere",),
        seed=9,
    ),
    Mutant(
        "a recovery keeps the open generation",
        5,
        RECOVERY,
        "generations=(opened,)",
        "generations=(replace(ledger.open, begin=begin),)",
    ),
    Mutant(
        "a recovery does not say what is lost",
        7,
        RECOVERY,
        "losses=merge_losses(ledger.losses, losses)",
        "losses=ledger.losses",
        seed=11,
    ),
    Mutant(
        "a publish does not say what the archive lacks",
        7,
        RUN,
        "                losses=computed.losses,\n",
        "",
        seed=166,
    ),
    Mutant(
        "a recovery leaves in the master what it may have wrong",
        10,
        RECOVER,
        "        master.restore(ledger.version.cut, starts)\n",
        "",
        seed=233,
    ),
    Mutant(
        "a recovery leaves in force what others planned before it",
        10,
        RECOVER,
        "        master.fence()\n",
        "",
        without=("ranges of the master need not join on",),
        seed=501,
    ),
    Mutant(
        "a chunk of the archive is left out",
        10,
        MASTER,
        "            before, head = head, self._head()\n",
        '            before, head = head, Held(self._head().version, {"end": end.to_json()})\n',
        seed=1,
    ),
    Mutant(
        "dead letters are not counted",
        10,
        LAYER,
        "counts: Log = {plan.source.topic: part.log for plan, part in folded if plan.current}",
        "counts: Log = {}",
    ),
    Mutant(
        "ids count before their commit",
        11,
        DUPLICATES,
        "        self._pending = list(ids)\n",
        "        self._pending = list(ids)\n        self.load(self._pending)\n",
    ),
    Mutant(
        "ids never count",
        11,
        LAYER,
        "            self.folder.committed()\n",
        "",
        seed=6,
    ),
    Mutant(
        "ids of a source that is no longer folded are kept",
        11,
        "speed_layer.recent",
        " for source, index in self._indexes.items() if source in sources}",
        " for source, index in self._indexes.items()}",
        seed=98,
    ),
    Mutant(
        "a floor falls",
        11,
        HANDOFF,
        "        floors[fingerprint] = max(floor, floors.get(fingerprint, floor))\n",
        "        pass\n",
        without=("a run computes floors anew",),
        seed=2,
    ),
    Mutant(
        "a run computes floors anew",
        11,
        RUN,
        "    return floor if before is None else max(floor, before)",
        "    return floor",
        without=("a floor falls",),
        seed=2,
    ),
    Mutant(
        "a run forgets the rejects before it",
        11,
        RUN,
        "computed.rejects = add_counts(computed.rejects, folded.rejects)",
        "computed.rejects = {**computed.rejects, **folded.rejects}",
        seed=2,
    ),
    Mutant(
        "what is quarantined is folded on",
        8,
        REGISTRY,
        "definitions=tuple(f for f in generation.definitions if f not in out)",
        "definitions=generation.definitions",
        seed=41,
    ),
    Mutant(
        "a topic made anew may quarantine a view",
        7,
        LAYER,
        "            self.check_topics(ledger)\n            with contextlib",
        "            with contextlib",
        seed=71,
    ),
    Mutant(
        "a publish is no more durable than a commit",
        12,
        BASE,
        "    return same_generations and after.committed.covers(before.committed) and _fixed(before) == _fixed(after)",
        "    return True",
        seed=10,
    ),
    Mutant(
        "what is applied is no more durable than a commit",
        12,
        BASE,
        "        ledger.wanted,\n",
        "",
        seed=51,
    ),
    Mutant(
        "a segment's number is no more durable than a commit",
        12,
        BASE,
        "        ledger.next_segment,\n",
        "",
        seed=158,
    ),
    Mutant(
        "a segment is published before it is loaded whole",
        12,
        LOADING,
        "    for chunk in _chunks(items, LOAD_ROWS):\n",
        "    for chunk in list(_chunks(items, LOAD_ROWS))[:2]:\n",
    ),
]


def planted(mutant: Mutant) -> AbstractContextManager[None]:
    """A mutant, and those that it is planted with, while it is open."""
    return in_place([mutant, *(other for other in MUTANTS if other.name in mutant.without)])


def first_seed(mutant: Mutant, seeds: Iterable[int]) -> int | None:
    """The first of the seeds whose schedule fails with a mutant planted, and with none does not."""
    return next((seed for seed in seeds if _fails(mutant, seed) and not run(seed).failure), None)


def _fails(mutant: Mutant, seed: int) -> bool:
    with planted(mutant):
        return run(seed).failure is not None
