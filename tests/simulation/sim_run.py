"""Schedules: made from a seed, run, and made shorter where they fail."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from types import SimpleNamespace
from unittest.mock import patch

from sim_judge import Wrong
from sim_views import CATALOGS
from sim_world import World

import batch_layer.run
import speed_layer.layer
from batch_layer import loading, master
from tideline import points
from tideline.points import RECOVERY_POINTS

Schedule = list[list[int]]
"""The choices of every step."""

PATIENCE = 600  # steps in which an installation that is left alone must come to rest


class Choices:
    """Draws from a seed, and remembers; or from a schedule, with zeros where it ends."""

    def __init__(self, seed: int | None, schedule: Schedule | None = None) -> None:
        self._random = random.Random(seed)
        self._given = schedule
        self.made: Schedule = []
        self._left: list[int] = []

    def next_step(self) -> None:
        """The choices from here on belong to another step."""
        if self._given is not None:
            self._left = list(self._given[len(self.made)]) if len(self.made) < len(self._given) else []
        self.made.append([])

    def pick(self, weights: Sequence[int]) -> int:
        """An index, as often as it weighs."""
        if self._given is None:
            self.made[-1].append(self._random.choices(range(len(weights)), weights)[0])
            return self.made[-1][-1]
        return self.draw(len(weights))

    def draw(self, below: int) -> int:
        if self._given is None:
            chosen = self._random.randrange(below)
        else:
            chosen = self._left.pop(0) % below if self._left else 0
        if self.made:
            self.made[-1].append(chosen)
        return chosen


@dataclass
class Outcome:
    """How a schedule ended. `crashes` counts (point, kind of crash)."""

    schedule: Schedule
    failure: str | None = None
    hand_offs: int = 0
    crashes: Counter[tuple[str, str]] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    fault: str | None = None

    @property
    def steps(self) -> int:
        return len(self.schedule)


def _go_on(world: World) -> None:
    """The batch layer goes on more often: it takes many steps for a run, and should come through some."""
    awake = []
    for process in world.processes:
        process.sleeps = max(0, process.sleeps - 1)
        awake += [] if process.sleeps else [process]
    batch = [process for process in awake if process.name == "batch"]
    able = batch if batch and world.draw(2) else awake
    if able:
        world.resume(able[world.draw(len(able))])


def _stall(world: World) -> None:
    """A process stands still for a while, as in a long collection of garbage, and another is started in its place."""
    if world.processes:
        process = world.processes[world.draw(len(world.processes))]
        process.sleeps = world.draw(100)
        world.start(process.name, locked=False)


def _oversleep(world: World) -> None:
    """A batch layer that has published stands still, and expires what it replaced while another one is at work."""
    for process in world.processes:
        if process.at in ("publish.done", "expire") and not process.sleeps:
            process.sleeps = 20 + world.draw(60)
            world.start("batch", locked=False)
            world.produce(3)


def _kill(world: World) -> None:
    if world.processes:
        world.kill(world.processes[world.draw(len(world.processes))])


def _cut_power(world: World) -> None:
    world.cut_power(1 + world.draw(3))


def _start_another(world: World) -> None:
    """One that believes that it holds the lock."""
    world.start(("speed", "batch")[world.draw(2)], locked=False)


def _add_partition(world: World) -> None:
    if len(world.kafka.topics["t"].ends) < 4 and world.fault is None:
        world.kafka.topics["t"].add_partition()


def _break(world: World) -> None:
    """What no installation goes on after without somebody's help; once."""
    if world.fault is None:
        faults = (world.lose_records, world.recreate_topic, world.lose_record, world.swap_records)
        faults[world.draw(len(faults))]()


STEPS: dict[Callable[[World], None], int] = {
    _go_on: 200,
    lambda world: world.start(("speed", "batch")[world.draw(2)]): 16,
    lambda world: world.produce(1 + world.draw(5)): 24,
}
EVENTS: dict[Callable[[World], None], int] = {
    _kill: 60,
    _stall: 30,
    _oversleep: 60,
    lambda world: world.apply(world.draw(2 * len(CATALOGS))): 40,
    _cut_power: 15,
    _start_another: 30,
    lambda world: world.kafka.topics["t"].skip(world.draw(2), 1 + world.draw(3)): 30,
    lambda world: world.expire_records(): 20,
    _add_partition: 20,
    World.read: 20,
    _break: 3,
    World.mend: 30,
}
ENDS = (_kill, _stall, _oversleep, _cut_power, _start_another)


def weights(draw: Callable[[int], int]) -> list[int]:
    """How often each kind of step is taken; what happens outside is rare, frequent or left out, by the seed.

    In some seeds nothing ends or gets in the way of a process, so that one lives through many hand-offs.
    """
    often = [10 * weight for weight in STEPS.values()]
    rough = min(draw(4), 1)
    return often + [
        weight * (0, 1, 1, 4)[draw(4)] * (rough if event in ENDS else 1) for event, weight in EVENTS.items()
    ]


def step(world: World, kind: int) -> None:
    """One step: somebody goes on, is killed, or is started, or something happens outside."""
    (*STEPS, *EVENTS)[kind](world)


def break_off(world: World) -> None:
    """Recoveries are broken off, anywhere and some times over, beside layers that believe the locks their own.

    Somebody then starts a layer, before the recovery is run again.
    """
    if world.draw(2):
        world.kill_all()
    if world.fault is None and world.draw(2):
        (world.lose_records, world.lose_record, world.swap_records)[world.draw(3)]()
    for _ in range(world.draw(6)):
        world.start_recovery()
        point = (None, *RECOVERY_POINTS)[world.draw(1 + len(RECOVERY_POINTS))]
        _run(world, 60 if point else world.draw(12), point)
        if world.draw(2):
            world.cut_power(1)
        for process in [process for process in world.processes if process.name == "recover"]:
            world.kill(process)
    if world.mending:
        world.start(("batch", "speed")[world.draw(2)])
        world.produce(12)
        _run(world, 60)
    world.kill_all()


def _run(world: World, steps: int, point: str | None = None) -> None:
    """Any of the processes goes on, for some steps, or until one stands at a point."""
    for _ in range(steps):
        if any(process.at == point for process in world.processes):
            return
        if world.processes:
            world.resume(world.processes[world.draw(len(world.processes))])
        world.judge.check(world.store.state)


def settle(world: World) -> None:
    """Left alone, without faults, an installation commits, archives and publishes everything."""
    break_off(world)
    world.calm = True
    world.mend()
    for number in range(PATIENCE):
        ledger = world.ledger
        at_end = ledger.committed == world.kafka.end(ledger.topic_ids)
        if ledger.settled and at_end and ledger.archived.covers(ledger.committed):
            return
        if world.broken and not any(process.name == "recover" for process in world.processes):
            world.mend()
        world.start("speed")
        if not at_end or number % 3:
            world.start("batch")
        for process in list(world.processes):
            if not process.ended:
                world.resume(process)
        world.judge.check(world.store.state)
    raise Wrong(f"no rest after {PATIENCE} steps: {world.ledger}")


@contextmanager
def small() -> Iterator[None]:
    """The layers with limits so small that a few records reach them, and a clock that does not depend on the day."""
    ticks = count()
    clock = SimpleNamespace(time=lambda: float(next(ticks)), monotonic=lambda: float(next(ticks)))
    with ExitStack() as stack:
        for owner, name, value in (
            (loading, "LOAD_ROWS", 3),
            (loading, "MANY_SEGMENTS", 2),
            (loading, "FEW_ROWS", 6),
            (master, "CHUNK", 12),
            (batch_layer.run, "time", clock),
            (speed_layer.layer, "time", clock),
        ):
            stack.enter_context(patch.object(owner, name, value))
        yield


def run(seed: int | None, schedule: Schedule | None = None) -> Outcome:
    """Runs a seed's schedule, or a given one."""
    choices = Choices(seed, schedule)
    with small():
        world = World(choices.draw)
        length = 400 + choices.draw(200) if schedule is None else len(schedule)
        often = weights(choices.draw) if schedule is None else [1] * (len(STEPS) + len(EVENTS))
        before = points.set_hook(world.reach)
        failure = None
        try:
            for _ in range(length):
                choices.next_step()
                step(world, choices.pick(often))
                world.judge.check(world.store.state)
            if world.fault != "recreated":
                settle(world)
        except Wrong as wrong:
            failure = str(wrong)
        except Exception as error:  # noqa: BLE001 - a defect in a layer, found
            failure = f"{type(error).__name__}: {error}"
        finally:
            world.kill_all()
            points.set_hook(before)
    made = choices.made if schedule is None else choices.made[: len(schedule)]
    return Outcome(made, failure, world.ledger.version.id, world.crashes, world.refused, world.fault)


def shorten(schedule: Schedule) -> Schedule:
    """A shorter schedule that still fails: parts are left out, large ones first."""
    size = len(schedule) // 2
    while size:
        start = 0
        while start < len(schedule):
            shorter = schedule[:start] + schedule[start + size :]
            if run(None, shorter).failure:
                schedule = shorter
            else:
                start += size
        size //= 2
    return schedule
