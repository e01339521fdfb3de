"""Mutants by the invariants of cuts, generations, the master's log and segments (1 to 7)."""

from __future__ import annotations

from planting import Mutant

SPEED = "tideline.ledger.speed"
HANDOFF = "tideline.ledger.handoff"
REGISTRY = "tideline.ledger.registry"
MERGE = "tideline.merge"
LAYER = "speed_layer.layer"
RUN = "batch_layer.run"
MASTER = "batch_layer.master"

OF_CUTS = [
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
]
