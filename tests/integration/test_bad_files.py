"""Bad files and options for `produce`: a named error, and a topic, ledger and master that stay as they were."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from bad_files import OPTIONS, PRODUCED, BadFile
from cases import few_views, make_source
from installed import Installed
from pyspark.sql import SparkSession

from tideline.cli.main import main


@pytest.fixture(scope="module")
def applied(spark: SparkSession, kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    folder = tmp_path_factory.mktemp("files")
    installed = Installed(spark, kafka, folder / "home", f"{folder.parent.name}-files")
    installed.apply(*few_views(make_source(installed.topic)))
    (folder / "good.csv").write_text("id,n\na,1\n")
    yield installed
    installed.close()


def refused(applied: Installed, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Exit code and condition of a `produce`, after which nothing is in the topic and the ledger is what it was."""
    before = applied.ledger.to_json()
    capsys.readouterr()
    home = ("--home", str(applied.home.path), "--bootstrap-server", applied.bootstrap, "-o", "json")
    code = main(["produce", *words, *home])
    assert applied.log_end.count_since(type(applied.log_end)()) == 0
    assert applied.ledger.to_json() == before
    assert list(applied.home.master.iterdir()) == []
    out, err = capsys.readouterr()
    assert len(err.splitlines()) == 1
    return code, json.loads(out)["error"]["condition"]


@pytest.mark.parametrize("bad", PRODUCED, ids=lambda bad: bad.kind)
def test_a_bad_file_is_refused(applied: Installed, capsys: pytest.CaptureFixture[str], bad: BadFile) -> None:
    path = applied.home.path.parent / bad.name
    if isinstance(bad.content, bytes):
        path.write_bytes(bad.content)
    elif bad.content is not None:
        path.mkdir()
    # Shuffled, a file is read whole before anything is sent: what precedes the bad row is not in the topic either.
    assert refused(applied, capsys, str(path), "--source", "events", "--shuffle", "1") == (bad.code, bad.gets)


@pytest.mark.parametrize("kind", OPTIONS)
def test_a_bad_option_is_refused(applied: Installed, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    option, value, gets = OPTIONS[kind]
    source = () if option == "--source" else ("--source", "events")
    file = str(applied.home.path.parent / "good.csv")
    assert refused(applied, capsys, file, *source, option, value) == (2, gets)


@pytest.mark.parametrize("server", ["localhost", "http://localhost:9092", "no.such.host.invalid:9092", "127.0.0.1:1"])
def test_a_kafka_that_is_none_is_named(applied: Installed, capsys: pytest.CaptureFixture[str], server: str) -> None:
    file, home = str(applied.home.path.parent / "good.csv"), str(applied.home.path)
    code = main(["produce", file, "--source", "events", "--home", home, "--bootstrap-server", server])
    err = capsys.readouterr().err
    assert code == (2 if server.startswith(("localhost", "http")) else 3)
    assert server in err
    assert len(err.splitlines()) == 1
