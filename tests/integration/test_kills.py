"""Ten SIGKILLs to the speed layer in mid-stream, at random moments, under steady traffic: no answer changes."""

from __future__ import annotations

import datetime as dt
import os
import random
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command import argv, tideline
from installed import wait_for

import tideline as tl
from tideline.cut import Cut
from tideline.oracle import verify
from tideline.runtime.groups import GroupClient
from tideline.runtime.topics import log_end_offsets
from tideline.simulate import shop_catalog
from tideline.simulate.shop import Shop, run_shop

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
KILLS = 10
# Each process lives for seconds, in which the JVM's optimising compiler takes more than it gives.
QUICK = {"JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m"}


@contextmanager
def speed(home: Path, bootstrap: str) -> Iterator[subprocess.Popen[bytes]]:
    """A speed layer's process, dead at the end."""
    command = argv("speed", "--home", str(home), "--bootstrap-server", bootstrap)
    with (home / "speed.out").open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=os.environ | QUICK)
        try:
            yield process
        finally:
            process.kill()
            process.wait(30)


@contextmanager
def traffic(bootstrap: str) -> Iterator[None]:
    """The shop's events at 300 a second, repeats and broken ones among them."""
    stop = threading.Event()
    shop = Shop(dt.datetime.now(dt.timezone.utc), rate=300, repeated=0.05, broken=0.01)
    thread = threading.Thread(target=run_shop, args=(shop, "shop", bootstrap, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)


def test_ten_kills_of_the_speed_layer_change_no_answer(kafka: str, tmp_path: Path) -> None:
    dice = random.Random(11)
    catalog = str(Path(shop_catalog.__file__))
    applied = tideline("apply", "--home", tmp_path, "--catalog", catalog, "--bootstrap-server", kafka)
    assert applied.code == 0, applied.err
    with tl.open(str(tmp_path)) as reader:

        def committed() -> int:
            return reader.ledger().committed.count_since(reader.ledger().origin)

        with traffic(kafka):
            for _ in range(KILLS):
                before = committed()
                with speed(tmp_path, kafka) as process:
                    wait_for(lambda before=before: committed() > before, "it commits", 120)
                    more = committed() + dice.randrange(600)
                    wait_for(lambda more=more: committed() >= more, "it goes on", 120)
                    process.kill()
                assert not (reader.ledger().committed.covers(Cut(log_end_offsets(kafka, ["shop"]))))
        with speed(tmp_path, kafka):
            end = Cut(log_end_offsets(kafka, ["shop"]))
            wait_for(lambda: reader.ledger().committed.covers(end), "all is committed", 120)
            with GroupClient(kafka) as client:
                group = f"tideline-{reader.ledger().installation[:8]}"
                wait_for(lambda: client.committed(group) == reader.ledger().committed, "lag tools see it", 30)
        assert reader.ledger().fences["speed"] == KILLS + 1
    report = verify(tmp_path, bootstrap=kafka)
    assert report.ok, report.to_text()
    assert report.keys > 0
