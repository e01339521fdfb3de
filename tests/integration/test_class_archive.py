"""JVMs that start from an archive of their classes, and that go without one that does not fit."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tideline.runtime.broker import Broker, broker_archive
from tideline.runtime.class_archive import ClassArchive
from tideline.runtime.home import Home
from tideline.runtime.jars import ivy_jar
from tideline.runtime.java import find_java
from tideline.runtime.prepare import make_archive
from tideline.runtime.spark_conf import spark_archive

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FROM_IT = "shared objects file (top)"


class Program:
    """A small program of one jar, and the archive of its classes."""

    def __init__(self, folder: Path) -> None:
        self.jar = folder / "program.jar"
        shutil.copy(ivy_jar(), self.jar)
        self.archive = ClassArchive("program", str(self.jar))
        self.archive.path.parent.mkdir()

    def run(self, options: Sequence[str]) -> str:
        command = [find_java().path, *options, "-cp", str(self.jar), "org.apache.ivy.Main", "-version"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout + done.stderr

    def make(self) -> bool:
        return self.archive.make(lambda options: void(self.run(options)))

    def loaded(self) -> str:
        return self.run([*self.archive.options(), "-Xlog:class+load"])


def void(_: object) -> None:
    """What was returned is of no interest."""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    monkeypatch.setenv("TIDELINE_CACHE", str(tmp_path))
    return Program(tmp_path)


def test_a_jvm_starts_from_an_archive_and_says_nothing_of_it(program: Program) -> None:
    alone = program.run([])
    assert program.archive.options() == ()
    assert not program.archive.is_tried()
    assert FROM_IT not in program.loaded()
    assert program.make()
    assert program.archive.is_tried()
    assert FROM_IT in program.loaded()
    assert program.run(program.archive.options()) == alone


def test_a_jvm_goes_without_an_archive_that_does_not_fit(program: Program) -> None:
    alone = program.run([])
    assert program.make()
    whole = program.archive.path.read_bytes()
    program.archive.path.chmod(0o600)
    middle = len(whole) // 2
    for damaged in (
        whole[:middle],
        whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        b"no archive",
    ):
        program.archive.path.write_bytes(damaged)
        assert FROM_IT not in program.loaded()
        assert program.run(program.archive.options()) == alone
    program.archive.path.write_bytes(whole)
    assert FROM_IT in program.loaded()
    os.utime(program.jar, (1, 1))
    assert FROM_IT not in program.loaded()
    assert program.run(program.archive.options()) == alone


def test_a_java_that_archives_nothing_is_not_asked_again(program: Program) -> None:
    assert not program.archive.make(lambda options: None)
    assert program.archive.is_tried()
    assert program.archive.options() == ()


def test_a_cache_that_takes_no_archive_is_told_and_nothing_fails(
    program: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    program.archive.path.parent.rmdir()
    program.archive.path.parent.touch()
    make_archive("it", program.archive, lambda options: void(program.run(options)))
    assert "no archive of classes could be kept" in capsys.readouterr().err


def test_a_part_of_an_archive_is_not_kept(program: Program) -> None:
    def stopped(options: Sequence[str]) -> None:
        program.run(options)
        raise subprocess.TimeoutExpired("java", 1)

    assert not program.archive.make(stopped)
    assert program.archive.options() == ()


def test_an_archive_that_nothing_starts_from_is_removed_in_the_end(program: Program) -> None:
    assert program.make()
    long_ago = time.time() - 31 * 86_400
    used, unused = program.archive.path, program.archive.path.with_name("other-1.jsa")
    unused.touch()
    unused.with_suffix(".size").write_text("0")
    for path in (used, unused):
        os.utime(path, (long_ago, long_ago))
    program.loaded()
    ClassArchive("another", "").make(lambda options: None)
    assert used.exists()
    assert not unused.exists()
    assert not unused.with_suffix(".size").exists()


def test_spark_and_the_broker_start_from_theirs(spark: SparkSession, tmp_path: Path) -> None:
    if not (spark_archive().options() and broker_archive().options()):
        pytest.skip("there are none: python -m tideline.runtime.prepare makes them")
    jvm: Any = spark._jvm
    pids = {jvm.java.lang.ProcessHandle.current().pid(): spark_archive().path}
    with Broker(Home(tmp_path).prepare()) as broker:
        assert broker.pid
        pids[broker.pid] = broker_archive().path
        for pid, path in pids.items():
            assert str(path) in Path(f"/proc/{pid}/maps").read_text()
