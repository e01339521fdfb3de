"""Where processes are killed, and how the installation comes back.

A strike is named by a point of `tideline.points`, or by what is killed at a random moment: a process, `everything` at
once, or a layer `twice`, at one point and, as it comes back, at another.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from live_site import LAYERS, TOPIC, Site

from tideline.oracle import Report
from tideline.oracle.records import LogUnreadableError
from tideline.points import ERASE_POINTS, POINTS, REBASE_POINTS, RECOVERY_POINTS
from tideline.runtime.process import ChildProcess, pause

DEATH = 180.0  # seconds within which a process must have died
AT_RANDOM = ("speed", "batch", "serve", "kafka", "everything")
AWAY = "kafka for a minute"
OUTAGE = 60.0  # seconds
TWICE = ("speed twice", "batch twice")
ONCE = ("speed.fence", "speed.start", "archive.rewrite", "archive.rewritten")  # reached once in a process's life
STRIKES = (*POINTS, *RECOVERY_POINTS, *REBASE_POINTS, *ERASE_POINTS, *AT_RANDOM, *TWICE, AWAY)


def victim(strike: str) -> str:
    """The process that a strike kills."""
    if strike in AT_RANDOM:
        return "all four" if strike == "everything" else strike
    if strike == AWAY:
        return "kafka"
    if strike in RECOVERY_POINTS:
        return "recover"
    if strike in REBASE_POINTS:
        return "recover --rebase"
    if strike in ERASE_POINTS:
        return "erase"
    return "speed" if strike.startswith("speed") else "batch"


class Strikes:
    """Strikes at a site; every view is verified while something is dead, and when it is back."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.reports: list[Report] = []
        self._erased = 0

    def strike(self, name: str, dice: random.Random) -> float:
        """Kills, and starts again; seconds to recover. The `reports` are those of this strike."""
        self.reports = []
        seconds = self._strike(name, dice)
        self._verify()
        return seconds

    def _verify(self) -> None:
        self.reports.append(self.site.verify())

    def _strike(self, name: str, dice: random.Random) -> float:
        if name == "everything":
            return self._everything(dice)
        if name in ("kafka", AWAY):
            return self._kafka(dice, OUTAGE if name == AWAY else 0)
        if name in RECOVERY_POINTS:
            return self._recover(name, dice)
        if name in REBASE_POINTS:
            return self._rebase(name)
        if name in ERASE_POINTS:
            return self._erase(name)
        if name in AT_RANDOM:
            pause(dice.random() * 3)
            self.site.stop(name)
            return self._again(name)
        layer, points = victim(name), [name]
        if name in TWICE:
            points = dice.sample([p for p in POINTS if victim(p) == layer and not p.startswith("archive.rewr")], 2)
        for point in points:
            self._kill(layer, point)
        return self._again(layer)

    def _kill(self, layer: str, point: str) -> None:
        """A layer dies at a point: the one that runs, or one that is started to reach it."""
        site = self.site
        with site.armed(point):
            if point in ONCE:
                site.stop(layer)
            if not site.children[layer].alive:
                site.start(layer, *(["--redecode"] if point.startswith("archive.rewr") else []))
            self._die(site.children[layer], point)

    def _run_into(self, point: str, name: str, *options: str) -> None:
        """A command dies at a point."""
        with self.site.armed(point):
            self._die(self.site.command(name, *options).start(), point)

    def _die(self, child: ChildProcess, point: str) -> None:
        self.site.wait(lambda: not child.alive, f"{child.command.name} dies at {point}", DEATH)
        if child.poll() != -9 or not self.site.fired:
            raise TimeoutError(f"{child.command.name} ended with exit code {child.poll()} before it was at {point}")
        child.clear_group(5)

    def _again(self, *names: str) -> float:
        """Starts layers; seconds until what is in the log by now is committed, published, answered."""
        self._verify()
        site, end, began = self.site, self.site.log_end(), time.monotonic()
        for name in names:
            site.start(name)
        reached: dict[str, Callable[[], bool]] = {
            "speed": lambda: site.ledger.committed.covers(end),
            "batch": lambda: site.ledger.version.cut.covers(end),
            "serve": site.answers,
        }
        for name in names:
            site.wait(reached[name], f"{name} is back")
        return time.monotonic() - began

    def _kafka(self, dice: random.Random, outage: float) -> float:
        site = self.site
        pause(dice.random() * 3)
        end = site.ledger.committed
        site.restart_broker(outage)
        site.supervise()
        return site.wait(lambda: site.ledger.committed.count_since(end) > site.rate, "events are committed again")

    def _everything(self, dice: random.Random) -> float:
        pause(dice.random() * 3)
        self.site.stop_everything()
        self.site.restart_broker()
        return self._again(*LAYERS)

    def _recover(self, point: str, dice: random.Random) -> float:
        """A batch run dies once the master is ahead; Kafka's retention may overtake both layers then.

        What is archived is taken back only where Kafka still holds it.
        """
        loses = point == "archive.lose" or (point != "archive.restore" and dice.random() < 0.5)
        site = self.site
        site.stop("speed")
        self._kill("batch", "archive.done")
        if loses:
            known = site.ledger.archived.offset(TOPIC, 0)
            site.wait(lambda: site.log_end().offset(TOPIC, 0) > known + 5, "there is something to lose")
            site.delete_records({0: site.log_end().offset(TOPIC, 0)})
        self._run_into(point, "recover")
        try:
            self._verify()
        except LogUnreadableError as error:  # nothing can recompute what is gone and not yet entered as lost
            if error.condition != "LOG_LOST" or not loses or point == "recover.done":
                raise
        return self._finish("recover") + self._again("speed", "batch")

    def _rebase(self, point: str) -> float:
        """The topic is made anew, before all of the old one was archived."""
        site = self.site
        with site.quiet():
            site.stop("speed", "batch")
            site.renew_topic()
        self._run_into(point, "recover", "--rebase")
        return self._finish("recover", "--rebase") + self._again("speed", "batch")

    def _finish(self, *command: str) -> float:
        """Seconds of a command that was broken off before."""
        began = time.monotonic()
        self.site.finish(*command)
        return time.monotonic() - began

    def _erase(self, point: str) -> float:
        """A customer is erased, which is broken off; the layers come back once it is done."""
        site = self.site
        site.wait(lambda: site.ledger.version.cut.count_since(site.ledger.origin) > 100 * site.rate, "customers came")
        site.stop(*LAYERS)
        site.close_reader()
        self._erased += 1
        who = ("--source", TOPIC, "--key", f"customer=customer-{self._erased:05d}")
        self._run_into(point, "erase", *who)
        return self._finish("erase", *who) + self._again(*LAYERS)
