"""Draws what somebody sees who asks all the time while both layers are killed around a hand-off: `scripts/picture`.

A batch run kills itself when everything is built and nothing published, the speed layer is killed at some moment before
it is back; each is started again some seconds later, as a supervisor would. Every answer is added up (`asking.faults`),
and in the end every view is recomputed.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from live_site import Site
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tideline.cut import Cut
from tideline.runtime.process import pause

TARGET = Path(__file__).parents[2] / "docs" / "pictures" / "hand-off-under-a-kill.svg"
RATE, EVERY = 200, "8s"
_SELDOM = 0.25  # seconds between two points of the log's end
DEAD = 4.0  # seconds until somebody starts it again
_BATCH, _SPEED, _LOG, _KILL = "#0b7285", "#66d9e8", "#495057", "#c92a2a"


class Course:
    """What happened when: answers, the log's end, and deeds."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._began = time.monotonic()
        self.answers: list[tuple[float, int, int]] = []
        """(seconds, records before the batch cut, records before the answer's cut)"""
        self.log: list[tuple[float, int]] = []
        self.deeds: list[tuple[float, str]] = []

    @property
    def now(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._began

    def hear(self, answer: Mapping[str, Any]) -> None:
        """Takes in an answer."""
        batch, end = (sum(sum(of.values()) for of in answer["proof"][name].values()) for name in ("batch_cut", "cut"))
        self.answers.append((self.now, batch, end))

    def did(self, deed: str) -> None:
        """Notes a deed."""
        self.deeds.append((self.now, deed))

    def look(self) -> Cut:
        """Where the log ends now."""
        end = self._site.log_end()
        if not self.log or self.now > self.log[-1][0] + _SELDOM:
            self.log.append((self.now, end.count_since(Cut())))
        return end

    def until(self, condition: Any, what: str) -> None:
        """Waits, and looks at the log meanwhile."""
        self._site.wait(lambda: (self.look(), condition())[1], what)

    def spend(self, seconds: float) -> None:
        """Lets so many seconds go by."""
        end = self.now + seconds
        while self.now < end:
            self.look()
            pause(0.2)


def strike(site: Site, course: Course) -> None:
    """Both layers die around one hand-off, and come back."""
    course.spend(6)
    with site.armed("publish"):
        course.until(lambda: not site.children["batch"].alive, "a batch run dies at its hand-off")
    course.did("batch killed before it publishes")
    course.spend(DEAD)
    site.stop("speed")
    course.did("speed killed")
    site.start("batch")
    course.spend(DEAD)
    site.start("speed")
    course.did("speed started again")
    version, end = site.ledger.version.id, course.look()
    course.until(lambda: site.ledger.version.id > version, "a version is published")
    course.did("published")
    course.until(lambda: site.ledger.committed.covers(end), "the speed layer is back")
    course.spend(6)


def draw(course: Course, title: str, target: Path) -> None:
    """Writes the picture."""
    mpl.rcParams.update({"svg.hashsalt": "tideline", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False})
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    axes = figure.add_subplot()
    times, batch, end = zip(*course.answers, strict=True)
    axes.fill_between(times, 0, batch, color=_BATCH, step="post", label="answered by batch")
    axes.fill_between(times, batch, end, color=_SPEED, step="post", label="answered by speed")
    axes.plot(*zip(*course.log, strict=True), color=_LOG, linewidth=1, label="sent to Kafka")
    _deeds(axes, course.deeds)
    axes.set(xlim=(0, times[-1]), ylim=(0, None), xlabel="seconds", ylabel="records counted")
    axes.spines["right"].set_visible(False)
    axes.set_title(title, loc="left", fontsize=9, pad=44)
    axes.legend(loc="lower right", frameon=True)
    figure.savefig(target, metadata={"Date": None})


def _deeds(axes: Axes, deeds: Iterable[tuple[float, str]]) -> None:
    for number, (at, deed) in enumerate(deeds):
        colour, height = (_KILL if "killed" in deed else _LOG), 1.01 + 0.09 * (number % 3)
        axes.axvline(at, 0, height, clip_on=False, color=colour, linestyle="--", linewidth=1)
        axes.annotate(f" {deed}", (at, height), xycoords=("data", "axes fraction"), color=colour, fontsize=8)


def main() -> int:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET
    folder = Path(tempfile.mkdtemp(prefix="tideline-picture-"))
    site = Site(folder, RATE, EVERY)
    with site.running():
        site.wait(lambda: site.asker.answers > 0, "somebody is answered")
        course = Course(site)
        site.asker.heard = course.hear
        strike(site, course)
        with site.quiet():
            report = site.verify()
    wrong = len(site.asker.wrong)
    verdict = f"{len(report.views)} views and versions, {report.keys} keys: {'equal' if report.ok else 'NOT EQUAL'}"
    draw(course, f"{len(course.answers)} answers, {wrong} of them wrong; recomputed at the end, {verdict}", target)
    print(f"{target}: {len(course.answers)} answers, {wrong} wrong; {verdict}")
    print(*site.asker.wrong, report.to_text(), sep="\n")
    if not report.ok or wrong:
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
