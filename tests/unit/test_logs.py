"""Log lines: one JSON object each with its fields, errors with their params, and no secret."""

from __future__ import annotations

import datetime as dt
import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tideline.cut import Cut
from tideline.errors import GapError, UsageError
from tideline.runtime.logs import HIDDEN, JsonFormatter, TextFormatter, fields, said

CUT = Cut({"sales": {0: 10, 1: 5}})
log = logging.getLogger("tideline.a_test")


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    """Where the log goes, as JSON."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield stream
    log.removeHandler(handler)


def last(out: io.StringIO) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(out.getvalue().splitlines()[-1])
    return line


def test_a_line_is_one_object_with_its_fields(out: io.StringIO) -> None:
    log.info("two\nlines of %s", "Ελλάδα", extra=fields(cut=CUT, generation=3, version=None, seconds=0.5))
    assert len(out.getvalue().splitlines()) == 1
    line = last(out)
    assert dt.datetime.fromisoformat(line.pop("time").replace("Z", "+00:00")).tzinfo == dt.timezone.utc
    assert line == {
        "level": "INFO",
        "logger": "tideline.a_test",
        "message": "two\nlines of Ελλάδα",
        "cut": "sales:0=10,1=5",
        "generation": 3,
        "seconds": 0.5,
    }
    assert Cut.parse(line["cut"]) == CUT


def test_a_field_never_hides_what_every_line_has(out: io.StringIO) -> None:
    log.info("m", extra=fields(level="x", message="y", time="z"))
    assert (last(out)["level"], last(out)["message"]) == ("INFO", "m")


def gap() -> GapError:
    return GapError("GAP", topic="sales", partition=1, expected=5, found=9)


def test_an_error_of_tidelines_own_brings_condition_and_params(out: io.StringIO) -> None:
    log.info("again: %s", gap())
    log.error("x", extra=fields(error=gap()))
    try:
        raise gap()
    except GapError:
        log.exception("failed")
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert len(lines) == 3
    for line in lines:
        assert line["condition"] == "GAP"
        assert line["params"] == {"topic": "sales", "partition": 1, "expected": 5, "found": 9}
    assert lines[2]["error"] == "GapError"
    assert "in test_an_error" in lines[2]["traceback"]


def test_secrets_stay_out_of_the_log(out: io.StringIO) -> None:
    refused = UsageError("BAD", "password=hunter2, so no", sasl_password="hunter2", at="kafka://me:hunter2@host")
    log.error(
        "%s", refused, extra=fields(settings={"ssl.key.secret": "hunter2", "port": 1}, nested=[{"api_key": "hunter2"}])
    )
    log.error("to s3://key:hunter2@bucket with spark.hadoop.fs.s3a.secret.key = hunter2")
    try:
        raise RuntimeError("sasl.jaas.config=hunter2")
    except RuntimeError:
        log.exception("no")
    assert "hunter2" not in out.getvalue()
    line = json.loads(out.getvalue().splitlines()[0])
    assert line["settings"] == {"ssl.key.secret": HIDDEN, "port": 1}
    assert line["params"]["at"] == f"kafka://me:{HIDDEN}@host"


def test_text_has_the_same_fields_behind_the_message() -> None:
    record = log.makeRecord(
        log.name, logging.INFO, "", 0, "sealed %d", (4,), None, extra=fields(cut=CUT, secret="hunter2")
    )
    assert (
        TextFormatter()
        .format(record)
        .endswith(f" INFO tideline.a_test: sealed 4 [cut=sales:0=10,1=5, secret={HIDDEN}]")
    )


@pytest.mark.parametrize(
    ("line", "expected"), [(' text "x"', 'text "x"'), ('{"message": "m"}', "m"), ("{broken", "{broken"), ("{}", "{}")]
)
def test_what_a_line_says_can_be_read_back(line: str, expected: str) -> None:
    assert said(line) == expected


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_command_that_goes_on_ends_with_its_error_in_the_logs_own_form(tmp_path: Path, form: str) -> None:
    (tmp_path / "conf.toml").write_text(f'[log]\nformat = "{form}"\n')
    options = ("--home", str(tmp_path / "none"), "--config", str(tmp_path / "conf.toml"))
    command = [sys.executable, "-m", "tideline.cli.main", "serve", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert said(line).startswith("tideline: there is no Tideline store at ")
    if form == "json":
        told = json.loads(line)
        assert (told["condition"], told["params"]) == ("STORE_MISSING", {"path": str(tmp_path / "none")})
