"""`tideline init`: what it reads out of events, and the project it writes."""

from __future__ import annotations

import ast
import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tideline.catalog import load_catalog
from tideline.cli.main import main
from tideline.errors import UsageError
from tideline.eventfiles import EventFile, EventFileError
from tideline.starter.infer import catalog_text, infer
from tideline.starter.project import from_example, from_sample

ROWS = """sensor_id,at,plant,celsius,alarm,note
s-1,2026-03-01 10:00:00,North,20.5,true,warm
s-2,2026-03-01T11:30:00Z,South,19.25,false,
s-3,2026-03-02 09:00:00,North,21,false,"a ""quoted"" word"
"""


@pytest.fixture
def sensors(tmp_path: Path) -> Path:
    file = tmp_path / "sensors.csv"
    file.write_text(ROWS, "utf-8")
    return file


def test_columns_and_their_parts_are_found(sensors: Path) -> None:
    found = infer(sensors)
    assert found.columns == {
        "sensor_id": "string",
        "at": "timestamp",
        "plant": "string",
        "celsius": "double",
        "alarm": "boolean",
        "note": "string",
    }
    assert (found.event_id, found.event_time, found.numbers) == ("sensor_id", "at", ("celsius",))
    assert found.key in ("plant", "note")


def test_what_is_not_unique_is_no_id_and_what_is_missing_somewhere_no_time(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    lines = [{"order_id": 1, "at": "2026-01-01T00:00:00Z"}, {"order_id": 1}, {"order_id": 2}]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    found = infer(file)
    assert (found.event_id, found.event_time) == (None, None)
    assert "_timestamp" in catalog_text(found, "orders")


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({"a": 1}, None),
        ([1, 2], None),
        (2**63, None),
        (2**62, "bigint"),
        ("12-25-2010", "string"),
        ("2010-12-25", "date"),
        ("2010-12-25T08:26:00+0100", "string"),
        ("2010-12-25T08:26:00+01:00", "timestamp"),
        (True, "boolean"),
    ],
)
def test_no_event_of_a_sample_of_json_is_a_dead_letter_for_its_types(tmp_path: Path, value: object, kind: str) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text("".join(json.dumps({"n": n, "value": value}) + "\n" for n in range(9)), "utf-8")
    assert infer(file).columns.get("value") == kind


@pytest.mark.parametrize(
    ("cell", "kind"),
    [
        ("True", "string"),
        ("true", "boolean"),
        ("25/12/2010", "string"),
        ("2010-12-25 8:26", "string"),
        ("2010-12-25 08:26", "timestamp"),
    ],
)
def test_no_event_of_a_sample_of_csv_is_a_dead_letter_for_its_types(tmp_path: Path, cell: str, kind: str) -> None:
    file = tmp_path / "events.csv"
    file.write_text("n,value\n" + "".join(f"{n},{cell}\n" for n in range(9)), "utf-8")
    assert infer(file).columns["value"] == kind


@pytest.mark.parametrize("hours, bucket", [(3, "minutes(1)"), (24 * 5, "hours(1)"), (24 * 90, "days(1)")])
def test_the_bucket_goes_with_the_time_that_the_events_span(tmp_path: Path, hours: int, bucket: str) -> None:
    file = tmp_path / "events.csv"
    days, rest = divmod(hours, 24)
    end = f"2026-{1 + days // 28:02}-{1 + days % 28:02}T{rest:02}:00:00Z"
    file.write_text(f"at,n\n2026-01-01T00:00:00Z,1\n{end},2\n", "utf-8")
    assert f"bucket={bucket}," in catalog_text(infer(file), "events")


def test_a_project_of_a_sample_is_whole(sensors: Path, tmp_path: Path) -> None:
    folder = tmp_path / "my-plant"
    written = from_sample(folder, sensors).files
    assert {path.relative_to(folder).as_posix() for path in written} == {
        *("README.md", "catalog.py", "events.jsonl", "tideline.toml", "tests/test_catalog.py"),
        *("deploy/Dockerfile", "deploy/airflow_dag.py", "deploy/compose.yaml", "deploy/kubernetes.yaml"),
        *("deploy/my_plant-batch.service", "deploy/my_plant-batch.timer", "deploy/my_plant-serve.service"),
        *("deploy/my_plant-speed.service", "deploy/submit.sh"),
    }
    for path in written:
        text = path.read_text("utf-8")
        assert "{{" not in text, path
        if path.suffix == ".py":
            ast.parse(text)
    catalog = load_catalog(folder / "catalog.py")
    assert set(catalog.views) == {"rate", "totals"}
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text("utf-8").splitlines()]
    assert [event["sensor_id"] for event in events] == ["s-1", "s-2", "s-3"]
    assert events[2]["note"] == 'a "quoted" word'
    assert os.access(folder / "deploy" / "submit.sh", os.X_OK)
    done = subprocess.run(["bash", str(folder / "deploy" / "submit.sh")], capture_output=True, text=True, check=False)
    assert (done.returncode, "usage" in done.stderr) == (2, True)


@pytest.mark.parametrize("name", ["1st file.csv", "1st file.CSV", "1st file.json.csv"])
def test_rows_without_an_id_are_numbered(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_text("plant,celsius\nNorth,1.5\nNorth,1.5\n", "utf-8")
    from_sample(tmp_path / "p", file)
    assert 'event_id="row_id"' in (tmp_path / "p" / "catalog.py").read_text("utf-8")
    assert "--source events_1st_file --row-id row_id" in (tmp_path / "p" / "README.md").read_text("utf-8")
    load_catalog(tmp_path / "p" / "catalog.py")


def test_the_example_is_a_project_too(tmp_path: Path) -> None:
    from_example(tmp_path / "shop")
    catalog = load_catalog(tmp_path / "shop" / "catalog.py")
    assert catalog.sources["orders"].event_id == "order_id"
    assert catalog.sources["orders"].event_time == "ordered_at"


def test_nothing_is_written_over(sensors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine.txt").write_text("mine", "utf-8")
    assert main(["init", str(tmp_path / "there"), "--sample", str(sensors)]) == 2
    assert "not empty" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("empty.csv", ""), ("header.csv", "a,b\n"), ("broken.jsonl", "{not json\n"), ("strange.txt.gz", "x")),
        *(
            ("gone.csv.gz", "a,b\n1,2\n"),
            ("latin.csv", "a,b\n1,\udce9\n"),
            ("titles.csv", "Sales of May\n\na,b\n1,2\n"),
        ),
        *(("array.json", '[{"a": 1}, {"a": 2}]'), ("array_lines.json", '[\n{"a": 1},\n{"a": 2}\n]\n')),
        *(("pretty.json", '{\n "a": 1\n}\n'), ("joined.json", '{"a": 1}{"a": 2}'), ("numbers.jsonl", "5\n6\n")),
        *(
            ("nothing.jsonl", "{}\n{}\n"),
            ("objects.jsonl", '{"o": {"a": 1}}\n'),
            ("odd.csv", "Order ID,1st\n1,2\n"),
        ),
    ],
)
def test_files_without_events_are_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, "utf-8", "surrogateescape")
    with pytest.raises(UsageError) as error:
        from_sample(tmp_path / "p", tmp_path / name)
    assert error.value.hint
    assert "\n" not in str(error.value)
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_cells_that_no_comma_separates_are_refused_by_init_and_by_produce(mark: str, tmp_path: Path) -> None:
    (tmp_path / "semi.csv").write_text("country;n\nFR;1\nNO;2\n".replace(";", mark), "utf-8")
    for read in (lambda: infer(tmp_path / "semi.csv"), lambda: list(EventFile(tmp_path / "semi.csv"))):
        with pytest.raises(EventFileError) as error:
            read()
        assert "separated by commas" in error.value.params["reason"]


def test_a_file_is_no_folder(sensors: Path) -> None:
    with pytest.raises(UsageError) as error:
        from_sample(sensors, sensors)
    assert error.value.condition == "FOLDER_TAKEN"


@pytest.mark.parametrize(
    ("event", "note"),
    [
        ({"Order ID": 1}, "'Order ID' is left out: a name has letters"),
        ({"größe": 1}, "'größe' is left out: a name has letters"),
        ({"1st": 1}, "'1st' is left out: a name has letters"),
        ({"_id": 1}, "'_id' is left out: names that start with _ are Tideline's own"),
        ({"N": 1}, "'N' is left out: 'n' differs from it by capitals only"),
        ({"big": 10**19}, "'big' is left out: no type takes all its values, such as 10000000000000000000"),
        ({"o": {"x": 1}}, "'o' is left out: no type takes all its values, such as {\"x\": 1}"),
        ({"half": "\ud800"}, "'half' is left out: no type takes all its values, such as \"\\ud800\""),
        ({"at": "2999-01-01T00:00:00Z"}, "'at' is not the events' time: some are to come"),
        ([1], "dead letters among the first 10 records: 1 (not a JSON object)"),
    ],
)
def test_what_is_left_out_is_told(event: object, note: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "events.jsonl"
    rows = [{"n": n, **(event if isinstance(event, dict) else {})} for n in range(9)]
    file.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *([] if isinstance(event, dict) else [event])]))
    assert main(["init", str(tmp_path / "p"), "--sample", str(file)]) == 0
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith(note)
    assert infer(file).columns["n"] == "bigint"
    assert infer(file).event_time is None


def test_more_columns_than_are_looked_at_are_told(tmp_path: Path) -> None:
    (tmp_path / "wide.jsonl").write_text(json.dumps({f"c{n}": n for n in range(600)}) + "\n", "utf-8")
    found = infer(tmp_path / "wide.jsonl")
    assert len(found.columns) == 500
    assert found.notes == ("100 more columns are left out: 500 are looked at",)


def test_broken_lines_at_the_beginning_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text("broken\n" * 250 + '{"n": 1, "c": "x"}\n' * 300, "utf-8")
    project = from_sample(tmp_path / "p", tmp_path / "events.jsonl")
    assert project.notes == ("dead letters among the first 550 records: 250 (not JSON)",)
    assert (tmp_path / "p" / "events.jsonl").read_text("utf-8") == '{"n": 1, "c": "x"}\n' * 200


def test_a_row_number_takes_a_name_that_is_free(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("Row_ID,c\n7,x\n7,y\n", "utf-8")
    project = from_sample(tmp_path / "p", tmp_path / "events.csv")
    assert project.commands[1].endswith(" --row-id row_id_2")
    (source,) = load_catalog(tmp_path / "p" / "catalog.py").sources.values()
    assert source.event_id == "row_id_2"


def test_a_path_is_one_word_of_the_shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, folder = tmp_path / "my $file's.csv", tmp_path / "my folder"
    file.write_text("id,n\n1,2\n", "utf-8")
    assert main(["init", str(folder), "--sample", str(file)]) == 0
    out = capsys.readouterr().out.splitlines()
    readme = (folder / "README.md").read_text("utf-8").splitlines()
    (produce,) = (line for line in readme if line.startswith("tideline produce"))
    assert out[-3:] == [f"cd '{folder}'", "tideline up --catalog catalog.py --config tideline.toml", produce]
    assert shlex.split(produce) == ["tideline", "produce", str(file), "--source", "my_file_s"]


@pytest.mark.parametrize(
    "words", [("--from-topic", "t"), ("--bootstrap-server", "a:1"), ("--sample", "a.csv", "--from-topic", "t")]
)
def test_options_that_do_not_go_together_are_refused(tmp_path: Path, words: tuple[str, ...]) -> None:
    assert main(["init", str(tmp_path / "p"), *words]) == 2
