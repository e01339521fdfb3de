"""Wrong catalogs and faults outside: one line that says what is wrong, and the right exit code."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from command import tideline
from pyspark.sql import SparkSession

from tideline.cli.main import main
from tideline.runtime.ports import free_port

HEADER = """from tideline import *
s = Source("clicks", schema="id string, n int, price decimal(10,2), at timestamp", event_time="at")
"""
WRONG = {
    "an unknown column": ("v = View('v', source=s, measures={'m': Sum('nn')})", "'n'"),
    "an unknown key": ("v = View('v', source=s, key='land', measures={'m': Count()})", "land"),
    "a type that does not fit": ("v = View('v', source=s, measures={'m': Sum('id')})", "number"),
    "a filter that is no condition": (
        "v = View('v', source=s, where='n + 1', measures={'m': Count()})",
        "boolean",
    ),
    "two views of one name": (
        "v = View('v', source=s, measures={'m': Count()}); w = View('v', source=s, measures={'n': Count()})",
        "v",
    ),
    "the clock": (
        "v = View('v', source=s, where='at < current_date()', measures={'m': Count()})",
        "current_date",
    ),
    "the clock as text": (
        "v = View('v', source=s, where=\"at < timestamp 'now'\", measures={'m': Count()})",
        "'now'",
    ),
    "who asks": ("v = View('v', source=s, key='who', columns={'who': 'user'}, measures={'m': Count()})", "user"),
    "a random number": ("v = View('v', source=s, measures={'m': Sum('rand()')})", "rand"),
    "an aggregate": ("v = View('v', source=s, measures={'m': Sum('max(n)')})", "max"),
    "a window": ("v = View('v', source=s, measures={'m': Sum('lag(n) over (order by at)')})", "over"),
    "no SQL": ("v = View('v', source=s, measures={'m': Sum('n +')})", "n +"),
    "an unknown type": (
        "t = Source('t', schema='a strin', event_time='a'); v = View('v', source=t, measures={'m': Count()})",
        "strin",
    ),
    "no view": ("", "View"),
    "broken Python": ("v = View(", "SyntaxError"),
}


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("command", ["plan", "apply"])
def test_a_wrong_catalog_is_refused_with_its_file_and_line(
    spark: SparkSession,
    kafka: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    what: str,
    command: str,
) -> None:
    declared, named = WRONG[what]
    catalog, home = tmp_path / "catalog.py", tmp_path / "home"
    catalog.write_text(HEADER + declared + "\n")
    options = ["--bootstrap-server", kafka] if command == "apply" else []
    assert main([command, "--catalog", str(catalog), "--home", str(home), *options]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    said = [line for line in lines if line.startswith("tideline: ")]
    assert len(said) == 1, lines
    assert f"{catalog}:3" in said[0] or what == "no view"
    assert str(catalog) in said[0]
    assert named in said[0]
    assert not (home / "store" / "data.mdb").exists()


def test_a_catalog_is_planned_applied_and_changed(
    spark: SparkSession, kafka: str, tmp_path: Path, topic_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog, home = tmp_path / "catalog.py", str(tmp_path / "home")
    header = HEADER.replace('"clicks"', f'"clicks", topic="{topic_name}"')

    def run(command: str, *views: str) -> set[str]:
        catalog.write_text(header + "\n".join(views) + "\n")
        options = ["--bootstrap-server", kafka] if command == "apply" else []
        capsys.readouterr()
        assert main([command, "--catalog", str(catalog), "--home", home, "-o", "csv", *options]) == 0
        return {",".join(line.split(",")[:3]) for line in capsys.readouterr().out.splitlines()[1:]}

    first = "v = View('v', source=s, measures={'m': Count()})"
    second = "w = View('w', source=s, key='n', measures={'m': Count()})"
    changed = "v = View('v', source=s, measures={'m': Count(), 'n': Sum('n')})"
    spelled = "v = View('v', source=s, measures={'m': Count()}, answers={'twice': 'm*2'})"
    new = {"source,clicks,build", "view,v,build"}
    assert run("plan", first) == run("plan", first) == new
    assert run("apply", first) == new
    assert run("apply", first) == {"source,clicks,keep", "view,v,keep"}
    assert run("plan", first, second) == {"source,clicks,keep", "view,v,keep", "view,w,build"}
    assert run("plan", changed) == {"source,clicks,keep", "view,v,rebuild"}
    assert run("plan", spelled) == {"source,clicks,keep", "view,v,update"}
    assert run("plan", second) == {"source,clicks,keep", "view,w,build", "view,v,drop"}


def test_what_was_not_applied_is_said_in_one_line(kafka: str, tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text("{}\n")
    home = ("--home", tmp_path / "home")
    for words in (
        ("produce", tmp_path / "events.jsonl", "--source", "s", *home, "--bootstrap-server", kafka),
        ("speed", *home, "--bootstrap-server", kafka),
        ("query", "v", *home),
    ):
        done = tideline(*words)
        assert done.code == 3, done.err
        assert str(tmp_path / "home") in done.line


def test_kafka_that_does_not_answer_is_said_within_bounds(tmp_path: Path) -> None:
    catalog = tmp_path / "catalog.py"
    catalog.write_text(HEADER + "v = View('v', source=s, measures={'m': Count()})\n")
    address = f"127.0.0.1:{free_port('127.0.0.1')}"
    began = time.monotonic()
    done = tideline(
        "up",
        "--catalog",
        catalog,
        "--home",
        tmp_path / "home",
        "--bootstrap-server",
        address,
        "--ports",
        "auto",
    )
    assert (done.code, address in done.line) == (3, True)
    assert time.monotonic() - began < 60
    again = tideline("apply", "--catalog", catalog, "--home", tmp_path / "home")
    assert again.code == 3, "nothing says where Kafka is"
    assert str(tmp_path / "home") in again.line


def test_a_home_that_cannot_be_written_and_a_catalog_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    catalog = tmp_path / "catalog.py"
    catalog.write_text(HEADER + "v = View('v', source=s, measures={'m': Count()})\n")
    for home in ("/proc/tideline", tmp_path / "file"):
        done = tideline("up", "--catalog", catalog, "--home", home, "--ports", "auto")
        assert (done.code, str(home) in done.line) == (3, True), done.err
    for command in ("up", "plan"):
        done = tideline(command, "--catalog", tmp_path / "none.py", "--home", tmp_path / "home")
        assert (done.code, "none.py" in done.line) == (2, True), done.err
