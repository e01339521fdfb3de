"""Real data through the whole of it: shuffled, with repeats, with hand-offs in between, checked by the oracle.

The first 60,000 lines of the file; `WHOLE_RETAIL=1` takes all 541,909.
"""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest
from installed import Installed, wait_for

from tideline.catalog import load_catalog
from tideline.cut import Cut
from tideline.oracle import verify
from tideline.produce import Progress, Summary, produce

WHOLE = bool(os.environ.get("WHOLE_RETAIL"))
LINES = 541_909 if WHOLE else 60_000
CATALOG = Path(__file__).parents[2] / "examples" / "retail.py"
REPEATED = 0.03

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500 if WHOLE else 400)]


class Producer:
    """Sends the file in a thread, up to the share of it that `allow` gave."""

    def __init__(self, installed: Installed, path: Path) -> None:
        self.summary: Summary | None = None
        self._allowed = 0
        self._stopping = threading.Event()
        self._more = threading.Condition()
        self._thread = threading.Thread(target=self._run, args=(installed, path))
        self._thread.start()

    def _run(self, installed: Installed, path: Path) -> None:
        source = installed.source
        self.summary = produce(
            path,
            source.topic,
            installed.bootstrap,
            source.schema,
            source.event_id,
            rate=LINES / 20,
            limit=LINES,
            shuffle_seed=7,
            duplicate=REPEATED,
            row_id="line_id",
            progress=self._wait,
            stop=self._stopping,
        )

    def _wait(self, progress: Progress) -> None:
        with self._more:
            self._more.wait_for(lambda: progress.sent < self._allowed or self._stopping.is_set(), 600)

    def allow(self, share: float) -> None:
        """Lets so much of the file go out."""
        with self._more:
            self._allowed = int(share * LINES) if share < 1 else 2 * LINES
            self._more.notify()

    def join(self) -> Summary:
        self._thread.join(600)
        assert self.summary is not None
        return self.summary

    def stop(self) -> None:
        self._stopping.set()
        self.allow(1)
        self._thread.join(60)


@pytest.fixture
def retail(installed: Installed) -> Installed:
    """The example's catalog over a topic of its own."""
    catalog = load_catalog(CATALOG)
    source = replace(catalog.sources["retail"], topic=installed.topic)
    installed.apply(*(replace(view, source=source) for view in catalog.views.values()), partitions=4)
    return installed


def check(installed: Installed) -> int:
    """How many keys the oracle compared; all of them equal."""
    report = verify(installed.home, bootstrap=installed.bootstrap)
    assert report.ok, report.to_text()
    assert {view.view for view in report.views} == set(installed.ledger.live)
    assert all(view.keys > 0 and not view.unchecked for view in report.views)
    return report.keys


def test_the_shops_lines_are_counted_right_after_each_hand_off_and_at_the_end(
    retail: Installed, retail_csv: Path
) -> None:
    assert len(retail.ledger.live) >= 6
    with retail.speed(max_offsets=50_000):
        sending = Producer(retail, retail_csv)
        try:
            for share in (0.2, 0.5, 0.8):
                sending.allow(share + 0.02)
                wait_for(
                    lambda share=share: retail.ledger.committed.count_since(Cut()) > share * LINES,
                    f"{share:.0%} of the lines are committed",
                    600,
                )
                sending.allow(share + 0.2)  # events go on arriving under the hand-off
                version = retail.ledger.version.id
                assert retail.batch()["version"] == version + 1
                assert check(retail) > 0
            sending.allow(1)
            summary = sending.join()
        finally:
            sending.stop()
        assert summary.sent == LINES
        assert summary.duplicates == pytest.approx(REPEATED * LINES, rel=0.1)
        retail.wait_committed()
        keys = check(retail)
    assert keys > (10_000 if WHOLE else 2_000)
    log = retail.ledger.log()[retail.topic].values()
    assert sum(stats.events for stats in log) == LINES
    assert sum(stats.duplicates for stats in log) == summary.duplicates
    assert not any(stats.dead for stats in log)
    total, per_country = csv_totals(retail_csv)
    found = retail.answers("line_amounts")[(), None]
    assert (found["total"], found["smallest"], found["largest"]) == total
    counted = {key[0]: (row["lines"], row["anonymous"]) for (key, _), row in retail.answers("reach").items()}
    assert counted == per_country
    retail.batch(full=True)
    assert retail.answers("line_amounts")[(), None]["total"] == total[0]


def csv_totals(path: Path) -> tuple[tuple[object, ...], dict[str, tuple[int, int]]]:
    """What DuckDB says over the CSV: sum, least and most of the amounts; lines and anonymous ones by country."""
    query = f"""
        with lines as (
            select *, Quantity * cast(UnitPrice as decimal(10,3)) as amount
            from read_csv('{path}', types = {{'UnitPrice': 'decimal(10,3)', 'CustomerID': 'varchar',
                          'InvoiceNo': 'varchar', 'StockCode': 'varchar'}})
            limit {LINES})
        select Country, count(*), count(*) filter (CustomerID is null), sum(amount), min(amount), max(amount)
        from lines group by all
    """
    with duckdb.connect() as connection:
        rows = connection.execute(query).fetchall()
    amounts = (sum(row[3] for row in rows), min(row[4] for row in rows), max(row[5] for row in rows))
    return amounts, {row[0]: (row[1], row[2]) for row in rows}
