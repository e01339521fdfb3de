"""Schedules: made from a seed, run, and made shorter where they fail."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from types import SimpleNamespace
from unittest.mock import patch

from sim_views import CATALOGS
from sim_world import World, Wrong

import batch_layer.run
import speed_layer.layer
from batch_layer import loading, master
from tideline import points

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
    """How a schedule ended. `pairs` counts (point, kind of crash)."""

    schedule: Schedule
    failure: str | None = None
    hand_offs: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    fault: str | None = None

    @property
    def steps(self) -> int:
        return len(self.schedule)


def step(world: World, draw: Callable[[int], int]) -> None:
    """One step: somebody goes on, is killed, or is started, or something happens outside."""
    choice = draw(200)
    running = world.processes
    if choice < 132 and running:
        # The batch layer takes many steps for a run, and should come through some.
        batch = [process for process in running if process.name == "batch"]
        able = batch if batch and choice % 2 else running
        world.resume(able[draw(len(able))])
    elif choice < 148:
        world.start(("speed", "batch")[draw(2)])
    elif choice < 172:
        world.produce(1 + draw(5))
    elif choice < 180 and running:
        world.kill(running[draw(len(running))])
    elif choice < 184:
        world.apply(draw(len(CATALOGS)))
    elif choice < 186:
        world.cut_power(1 + draw(3))
    elif choice < 189:
        world.start(("speed", "batch")[draw(2)], locked=False)
    elif choice < 192:
        world.kafka.topics["t"].skip(draw(2), 1 + draw(3))
    elif choice < 194:
        world.expire_records(archived=True)
    elif choice < 196 and len(world.kafka.topics["t"].ends) < 4 and world.fault is None:
        world.kafka.topics["t"].add_partition()
    elif choice < 198 and world.fault is None and draw(10) == 0:
        (lambda: world.expire_records(archived=False), world.recreate_topic, world.lose_record)[draw(3)]()


def settle(world: World) -> None:
    """Left alone, without faults, an installation commits, archives and publishes everything."""
    world.kill_all()
    world.calm = True
    for number in range(PATIENCE):
        ledger = world.ledger
        at_end = ledger.committed == world.kafka.end(ledger.topic_ids)
        if ledger.settled and at_end and ledger.archived.covers(ledger.committed):
            return
        world.start("speed")
        if not at_end or number % 3:
            world.start("batch")
        for process in list(world.processes):
            if not process.ended:
                world.resume(process)
        world.check()
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
        length = 200 + choices.draw(300) if schedule is None else len(schedule)
        before = points.set_hook(world.reach)
        failure = None
        try:
            for _ in range(length):
                choices.next_step()
                step(world, choices.draw)
                world.check()
            if world.fault is None:
                settle(world)
        except Wrong as wrong:
            failure = str(wrong)
        except Exception as error:  # noqa: BLE001 - a defect in a layer, found
            failure = f"{type(error).__name__}: {error}"
        finally:
            world.kill_all()
            points.set_hook(before)
    made = choices.made if schedule is None else choices.made[: len(schedule)]
    return Outcome(made, failure, world.ledger.version.id, world.kills, world.refused, world.fault)


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
