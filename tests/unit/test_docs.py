"""The documents say what is there: links, samples, commands, names of tests, lists of functions and measures."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import planted_faults
import pytest

from tideline import answers
from tideline.answers import Answer
from tideline.catalog import Catalog, collect_catalog
from tideline.cli.main import make_parser, parse
from tideline.expressions import ROW_FUNCTIONS, SPECIAL_COLUMNS, check_row_expression
from tideline.measures import Measure
from tideline.source import Source
from tideline.view import View

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "scripts" / "README.md"])
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))
FENCE = re.compile(r"^```([\w-]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INTERNAL = {"UNRESOLVED_MEASURE", "NOT_MADE_OF_PARTS"}  # faults of a caller's, which no catalog can bring about


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def blocks(text: str, language: str) -> list[str]:
    return [body for found, body in FENCE.findall(text) if found == language]


def spans(text: str) -> list[str]:
    """What stands in `code` outside blocks."""
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", text))


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def rows(text: str, first: str) -> Iterator[list[str]]:
    """The cells of the table whose first column is called `first`."""
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith(f"| {first} |"):
            next(lines)
            for row in lines:
                if not row.startswith("|"):
                    return
                yield [cell.strip() for cell in row.strip("|").split("|")]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text("utf-8"))
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in links if link and not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_file_that_is_named_exists(page: Path) -> None:
    roots = (
        "tideline/",
        "batch_layer/",
        "speed_layer/",
        "serving_layer/",
        "tests/",
        "examples/",
        "conf/",
        "scripts/",
        "docs/",
    )
    files = [span.split()[0] for span in spans(page.read_text("utf-8")) if span.startswith(roots)]
    assert [name for name in files if not (ROOT / name).exists()] == []


# The catalogs.

SAMPLES = {
    f"{page}, sample {number}": body
    for page in ("README.md", "docs/catalog.md")
    for number, body in enumerate((b for b in blocks(read(page), "python") if "View(" in b), 1)
}


def load(name: str) -> Catalog:
    values: dict[str, Any] = {}
    exec(compile(SAMPLES[name], name, "exec"), values)
    return collect_catalog(list(values.values()), name)


def test_the_readme_and_the_catalogs_page_have_samples() -> None:
    assert {name.partition(",")[0] for name in SAMPLES} == {"README.md", "docs/catalog.md"}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_loads_as_a_catalog(name: str) -> None:
    catalog = load(name)
    for source in catalog.sources.values():
        source.resolve()
    for view in catalog.views.values():
        texts = [text for measure in view.measures.values() for text in measure.row_expressions().values()]
        for text in (*texts, *view.columns.values(), *([view.where] if view.where else [])):
            check_row_expression(text)
        for text in view.answers.values():
            Answer(text, view.measures)


@pytest.mark.integration
@pytest.mark.parametrize("name", SAMPLES)
def test_spark_types_a_sample(spark: SparkSession, name: str) -> None:
    from tideline.spark.resolve import resolve_catalog

    catalog = load(name)
    assert set(resolve_catalog(spark, catalog).views) == set(catalog.views)


# The README.


def test_the_first_screen_is_a_sentence_two_commands_a_catalog_and_an_answer_with_its_proof() -> None:
    text = read("README.md")
    opening, commands, catalog, answer = (text.partition("\n## ")[0].split("```")[i] for i in (0, 1, 3, 5))
    assert opening.strip().count(". ") == 0
    assert re.findall(r"^(scripts/\w+)", commands, re.MULTILINE) == ["scripts/demo", "scripts/test"]
    assert sum(bool(line.strip()) for line in catalog.splitlines()[1:]) <= 10
    assert "\nproof " in answer
    assert "\nexact " in answer


def command_lines(text: str) -> Iterator[list[str]]:
    fenced = [line.removeprefix("$ ") for _, body in FENCE.findall(text) for line in body.splitlines()]
    for line in (*fenced, *spans(text)):
        words = shlex.split(line, comments=True) if re.match(r"tideline [a-z-]+( |$)", line) else []
        if words[1:]:
            yield words[1:]


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))])
def test_every_command_line_is_understood(page: str) -> None:
    found = list(command_lines(read(page)))
    for words in found:
        complete = (
            words
            if len(words) > 1 or words[0] not in ("up", "apply", "plan", "check", "rebuild")
            else [*words, "--catalog", "FILE"]
        )
        assert parse(complete).command == words[0], words
    assert found or page not in ("README.md", "docs/operations.md", "docs/monitoring.md")


def test_every_command_stands_in_the_table() -> None:
    listed = {row[0].strip("`").split()[1] for row in rows(read("README.md"), "command")}
    subparsers = next(action for action in make_parser()._actions if action.dest == "command")
    assert listed == set(subparsers.choices or ())


# The catalog's page.


def test_the_functions_listed_are_those_allowed() -> None:
    (listed,) = blocks(read("docs/catalog.md"), "functions")
    assert sorted(listed.split()) == sorted(ROW_FUNCTIONS)
    (listed,) = blocks(read("docs/catalog.md"), "answer-functions")
    assert sorted(listed.split()) == sorted({*answers._FUNCTIONS, "coalesce"})


def test_the_measures_listed_are_those_there_are_with_their_options() -> None:
    table = {row[0].strip("`"): row[1] for row in rows(read("docs/catalog.md"), "measure")}
    kinds = {kind.__name__: kind for kind in Measure.registry.values()}
    assert set(table) == set(kinds)
    common = {field.name for field in fields(Measure)}
    for name, options in table.items():
        own = {field.name for field in fields(kinds[name])} - common
        assert own <= set(re.findall(r"\w+", options)) or options.startswith("as "), name


def test_every_option_of_a_source_and_a_view_and_every_special_column_is_listed() -> None:
    text = read("docs/catalog.md")
    for kind, heading in ((Source, "## Source"), (View, "## View")):
        section = text.partition(f"\n{heading}\n")[2]
        listed = [row[0].strip("`") for row in rows(section, "option")]
        assert sorted(listed) == sorted({field.name for field in fields(kind)} - {"location"})
    assert [row[0].strip("`") for row in rows(text, "column")] == list(SPECIAL_COLUMNS)


def test_every_refusal_of_a_catalog_is_listed() -> None:
    raised: set[str] = set()
    for path in (ROOT / "tideline").rglob("*.py"):
        raised |= set(re.findall(r"DefinitionError\(\s*\"([A-Z_]+)\"", path.read_text("utf-8")))
    listed = {name for row in rows(read("docs/catalog.md"), "condition") for name in re.findall(r"`([A-Z_]+)`", row[0])}
    assert raised - INTERNAL <= listed
    assert listed <= raised | {"NO_CATALOG"}


# The protocol.


def test_the_protocol_names_only_tests_that_exist() -> None:
    names: set[str] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        names |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    told = set(re.findall(r"`(test_\w+)`", read("docs/protocol.md")))
    assert told - names == set()


def test_each_of_the_twelve_invariants_has_modules_and_tests() -> None:
    table = list(rows(read("docs/protocol.md"), "no"))
    assert [row[0] for row in table] == [str(number) for number in range(1, 13)]
    for number, invariant, modules, tests in table:
        assert invariant.startswith("**"), number
        assert ".py`" in modules, number
        assert "`test_" in tests, number


def test_the_planted_faults_listed_are_those_there_are() -> None:
    listed = {name for row in rows(read("docs/protocol.md"), "fault") for name in re.findall(r"`(\w+)`", row[0])}
    assert listed == {fault.__name__ for fault in (*planted_faults.WRONG_ANSWERS, *planted_faults.BROKEN_RULES)}


def test_the_picture_says_what_it_shows_and_has_colours_for_dark_pages() -> None:
    picture = read("docs/protocol.svg")
    root = ElementTree.fromstring(picture)
    space = "{http://www.w3.org/2000/svg}"
    assert all((root.findtext(f"{space}{name}") or "").strip() for name in ("title", "desc"))
    assert "prefers-color-scheme: dark" in picture


# The decisions.


@pytest.mark.parametrize("page", DECISIONS, ids=named)
def test_a_decision_says_what_was_chosen_what_else_there_was_and_when_to_look_again(page: Path) -> None:
    text = page.read_text("utf-8")
    assert text.startswith(f"# {page.name[:3]} ")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Chosen", "Also tried or considered", "Look again when"]
    _, *parts = re.split(r"^## .*$", text, flags=re.MULTILINE)
    assert all(part.strip() for part in parts)


def test_decisions_are_numbered_without_a_gap() -> None:
    assert [page.name[:3] for page in DECISIONS] == [f"{number:03}" for number in range(1, len(DECISIONS) + 1)]
