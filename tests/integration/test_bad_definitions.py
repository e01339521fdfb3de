"""Bad catalogs: one line with condition, file and line, exit code 2, and an installation that stays as it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bad_definitions import CATALOGS, HEADER, BadCatalog
from pyspark.sql import SparkSession

from tideline.cli.main import main
from tideline.stores.lmdb import LmdbStore

GOOD = "print('loading')\nv = View('v', source=s, key='id', bucket=hours(1), measures=count)\n"


@dataclass
class Applied:
    """An installation with a good catalog."""

    home: Path
    catalog: Path
    bootstrap: str

    def run(self, command: str, text: str) -> int:
        self.catalog.write_text(text)
        options = ["--bootstrap-server", self.bootstrap] if command == "apply" else []
        words = [command, "--catalog", str(self.catalog), "--home", str(self.home), "-o", "json", *options]
        return main(words)

    def state(self) -> Any:
        with LmdbStore.open(self.home, readonly=True) as store, store.snapshot() as snapshot:
            ledger, spaces = snapshot.ledger.to_json(), snapshot.spaces()
        return ledger, spaces, sorted(str(path) for path in self.home.rglob("*") if "tmp" not in path.parts)


@pytest.fixture(scope="module")
def applied(spark: SparkSession, kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Applied]:
    folder = tmp_path_factory.mktemp("definitions")
    found = Applied(folder / "home", folder / "catalog.py", kafka)
    assert found.run("apply", header(found) + GOOD) == 0
    return found


def header(applied: Applied) -> str:
    """The tables' header, over a topic of this test's own."""
    return HEADER.replace('"events"', f'"events", topic="{applied.catalog.parent.parent.name}-definitions"')


@pytest.mark.parametrize("bad", CATALOGS, ids=lambda bad: bad.kind)
@pytest.mark.parametrize("command", ["plan", "apply"])
def test_a_bad_catalog_is_refused_with_its_file_and_line_and_changes_nothing(
    applied: Applied, capsys: pytest.CaptureFixture[str], bad: BadCatalog, command: str
) -> None:
    before = applied.state()
    capsys.readouterr()
    assert applied.run(command, header(applied) + bad.line + "\n") == 2
    out, err = capsys.readouterr()
    said = [line for line in err.splitlines() if line.startswith("tideline: ")]
    error = json.loads(out)["error"]
    assert (error["condition"], len(said)) == (bad.gets, 1), err
    assert bad.named in said[0]
    assert f"{applied.catalog}{'' if bad.gets == 'EMPTY_CATALOG' else ':'}" in said[0]
    assert len(said[0]) < 20_000
    assert applied.state() == before


def test_the_installation_goes_on_with_a_good_one_whose_prints_are_not_the_answer(
    applied: Applied, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert applied.run("apply", header(applied) + GOOD) == 0
    out, err = capsys.readouterr()
    assert {(change["kind"], change["action"]) for change in json.loads(out)} == {("source", "keep"), ("view", "keep")}
    assert "loading" in err
