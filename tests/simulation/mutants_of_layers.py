"""Mutants by the invariants of definitions, fences, recovery, repeats and durability (8 to 12), and of recoveries."""

from __future__ import annotations

from planting import Mutant

SPEED = "tideline.ledger.speed"
HANDOFF = "tideline.ledger.handoff"
STATE = "tideline.ledger.state"
REGISTRY = "tideline.ledger.registry"
LAYER = "speed_layer.layer"
RUN = "batch_layer.run"
MASTER = "batch_layer.master"
LOADING = "batch_layer.loading"
BASE = "tideline.stores.base"
DUPLICATES = "tideline.duplicates"
RECOVER = "batch_layer.recover"
RECOVERY = "tideline.ledger.recovery"

OF_LAYERS = [
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
