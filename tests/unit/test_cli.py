"""The command line's query side: what it prints, where errors go, which exit code they have."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from serving_case import Installation, installed

from serving_layer.status import lag, margin
from tideline.cli.main import main, parse
from tideline.cli.output import table
from tideline.cut import Cut
from tideline.runtime.home import Home
from tideline.runtime.ports import free_port
from tideline.stores.lmdb import LmdbStore


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    Home(folder).prepare()
    return folder


@pytest.fixture(scope="module", autouse=True)
def installation(home: Path) -> Iterator[Installation]:
    with LmdbStore.open(home, create=True) as store:
        yield installed(store, 90)


def run(capsys: pytest.CaptureFixture[str], home: Path, *words: str) -> tuple[int, str, str]:
    code = main([words[0], "--home", str(home), *words[1:]])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_query_prints_a_table_and_its_proof(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    code, out, err = run(capsys, home, "query", "totals", "country=France", "--measures", "lines,spread")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0].split() == ["country", "lines", "spread"]
    assert lines[2].startswith("France")
    assert lines[4].startswith("proof   1 row of totals")
    assert lines[5].startswith("events  60 batch + 30 speed; 3 duplicates, 3 dead letters, 0 rejects")
    assert lines[6] == "exact   lines; spread within 1 % of the value"


def test_every_option_reaches_the_query(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    code, out, _ = run(
        capsys,
        home,
        "query",
        "revenue",
        "--from",
        "2011-12-01",
        "--to",
        "2011-12-04",
        "--window",
        "1d",
        "--slide",
        "12h",
        "product=cup",
        "--group-by",
        "none",
        "--measures",
        "lines",
        "--order",
        "-lines",
        "--limit",
        "3",
        "--limit-by",
        "window:1",
        "--at-least",
        "sales:0=1",
        "--timeout",
        "2",
        "--parts",
        "-o",
        "json",
    )
    rows = json.loads(out)["rows"]
    assert code == 0
    assert len(rows) == 3
    assert [row["lines"] for row in rows] == sorted((row["lines"] for row in rows), reverse=True)
    assert list(rows[0]) == ["window", "lines", "parts"]


def test_key_filters_may_stand_after_options(home: Path) -> None:
    args = parse(["query", "revenue", "--limit", "2", "country=France", "-o", "csv", "product=cup"])
    assert args.pairs == ["country=France", "product=cup"]


def test_apply_takes_what_it_would_refuse_only_if_told_so() -> None:
    args = parse(["apply", "--catalog", "x.py"])
    assert (args.accept_narrower, args.retry) == (False, [])
    args = parse(["apply", "--catalog", "x.py", "--accept-narrower", "--retry", "a", "--retry", "b"])
    assert (args.accept_narrower, args.retry) == (True, ["a", "b"])


def test_csv_json_and_arrow_agree(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    words = ("query", "totals", "--measures", "lines", "-o")
    whole = [row["lines"] for row in json.loads(run(capsys, home, *words, "json")[1])["rows"]]
    assert [int(row["lines"]) for row in csv.DictReader(io.StringIO(run(capsys, home, *words, "csv")[1]))] == whole
    argv = [sys.executable, "-m", "tideline.cli.main", *words, "arrow", "--home", str(home)]
    stream = subprocess.run(argv, capture_output=True, check=True).stdout
    assert pa.ipc.open_stream(stream).read_all()["lines"].to_pylist() == whole


def test_views_and_describe(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    code, out, _ = run(capsys, home, "views")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[2:]] == [
        "everything",
        "hourly",
        "revenue",
        "totals",
        "typed",
    ]
    assert [view["name"] for view in json.loads(run(capsys, home, "views", "-o", "json")[1])["views"]][2] == "revenue"
    assert len(run(capsys, home, "views", "-o", "csv")[1].splitlines()) == 6
    text = run(capsys, home, "describe", "revenue")[1]
    assert "bucket       1h" in text
    assert any(line.split()[:2] == ["sum", "revenue"] for line in text.splitlines())
    assert json.loads(run(capsys, home, "describe", "revenue", "-o", "json")[1])["bucket"] == "1h"


def test_status(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    code, out, _ = run(capsys, home, "status")
    assert code == 0
    assert out.startswith("ready         no (speed, serve, kafka)\n")
    assert "90 events, 3 duplicates, dead letters: 3 BAD_JSON" in out
    status = json.loads(run(capsys, home, "status", "-o", "json")[1])
    assert (status["batch_version"], status["lag_events"], status["api"]) == (2, None, None)


def test_status_when_kafka_does_not_answer(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    Home(home).write_status("kafka", {"bootstrap": f"127.0.0.1:{free_port()}"})
    try:
        began = time.monotonic()
        status = json.loads(run(capsys, home, "status", "-o", "json", "--timeout", "0.5")[1])
        assert time.monotonic() - began < 15
    finally:
        Home(home).clear_status("kafka")
    assert status["lag_events"] is None
    assert status["retention_margin"] is None
    assert "does not answer" in status["kafka"]["error"]


def test_lag_and_margin_look_at_every_partition(installation: Installation) -> None:
    with installation.store.snapshot() as snapshot:
        ledger = snapshot.ledger
    committed, archived = ledger.committed.offsets("sales"), ledger.archived.offsets("sales")
    assert lag(Cut({"sales": {0: committed[0] + 5, 1: committed[1] - 3}}), ledger.committed) == 5
    starts = Cut({"sales": {0: archived[0] - 4, 1: archived[1] + 2}})
    expected = {"offsets": -2, "deleted": archived[1] + 2, "topic": "sales", "partition": 1}
    assert margin(starts, ledger) == expected


@pytest.mark.parametrize(
    ("words", "code", "condition"),
    [
        (("query", "nope"), 2, "UNKNOWN_VIEW"),
        (("query", "revenue", "city=Oslo"), 2, "UNKNOWN_KEY"),
        (("query", "revenue", "France"), 2, "BAD_ARGUMENTS"),
        (("query", "revenue", "--nope"), 2, "BAD_ARGUMENTS"),
        (("query", "revenue", "country=a", "country=b"), 2, "BAD_ARGUMENTS"),
        (("query",), 2, "BAD_ARGUMENTS"),
        (("query", "revenue", "--window", "90m"), 2, "BAD_WINDOW"),
        (("query", "revenue", "--measures", "x"), 2, "UNKNOWN_MEASURE"),
        (("query", "revenue", "--from", "x"), 2, "BAD_TIME"),
        (("describe", "nope"), 2, "UNKNOWN_VIEW"),
        (("views", "extra"), 2, "BAD_ARGUMENTS"),
        (("serve", "--port", "x"), 2, "BAD_SETTING"),
        (("query", "revenue", "--at-least", "sales:0=99999", "--timeout", "0.05"), 3, "AT_LEAST_TIMEOUT"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    capsys: pytest.CaptureFixture[str], home: Path, words: tuple[str, ...], code: int, condition: str
) -> None:
    formats = [] if words[0] == "serve" else ["-o", "json"]
    found, out, err = run(capsys, home, *words, *formats)
    assert found == code
    assert err.startswith("tideline: ")
    assert len(err.splitlines()) == 1
    if formats:
        answer = json.loads(out)["error"]
        assert (answer["condition"], sorted(answer)) == (
            condition,
            ["condition", "hint", "message", "params"],
        )
        assert answer["message"] in err


def test_without_a_command_or_store(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([]) == 2
    assert "command" in capsys.readouterr().err
    for words in (("query", "revenue"), ("status",), ("views",), ("serve", "--port", "auto")):
        code, _, err = run(capsys, tmp_path, *words)
        assert (code, len(err.splitlines())) == (3, 1)
        assert str(tmp_path) in err
    assert list(tmp_path.iterdir()) == []


def test_a_query_imports_no_spark(home: Path) -> None:
    script = """
import sys
from tideline.cli.main import main
code = main(["query", "totals", "--home", sys.argv[1]])
print(code, [name for name in sys.modules if name.split(".")[0] in ("pyspark", "py4j", "delta")])
"""
    argv = [sys.executable, "-c", script, str(home)]
    out = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "0 []"


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == main(["--help"]) == main(["query", "--help"]) == 0
    assert "--limit-by" in capsys.readouterr().out


def test_a_table_aligns_wide_text_and_numbers() -> None:
    rows: list[dict[str, Any]] = [
        {"name": "日本", "n": 5, "d": "1.50"},
        {"name": None, "n": 12345, "d": None},
    ]
    assert table(["name", "n", "d"], rows).splitlines() == [
        "name      n     d",
        "----  -----  ----",
        "日本      5  1.50",
        "null  12345  null",
    ]


def test_output_that_nobody_reads_on_is_no_fault(home: Path) -> None:
    argv = f"{sys.executable} -m tideline.cli.main query revenue --home {home} | head -1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {argv}"], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_a_taken_port_is_one_line(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, _, err = run(capsys, home, "serve", "--port", str(taken.getsockname()[1]))
    assert code == 3
    assert "is taken" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_says_where_it_is_and_stops_cleanly(home: Path, number: signal.Signals) -> None:
    argv = [sys.executable, "-m", "serving_layer", "--home", str(home), "--port", "auto"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    server = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    guard = threading.Timer(60, server.kill)
    guard.start()
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        status = Home(home).read_status("serve")
        assert status is not None
        assert line == f"serving {status['url']}\n"
        assert httpx.get(f"{status['url']}/v1/status").json()["api"] == status["url"]
        assert len(httpx.get(f"{status['url']}/v1/views/totals/rows").json()["rows"]) == 4
        server.send_signal(number)
        assert server.wait(30) == 0
        assert server.stdout.read() == ""
    finally:
        guard.cancel()
        server.kill()
        server.wait()
        server.stdout.close()
    assert Home(home).read_status("serve") is None
