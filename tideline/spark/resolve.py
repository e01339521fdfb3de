"""Resolving a catalog: Spark types every expression, and what cannot be a view is refused with its file and line."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import DataFrame, SparkSession

from tideline.answers import Answer
from tideline.catalog import Catalog
from tideline.definition import ROWS, ViewDefinition, fingerprint
from tideline.durations import to_micros
from tideline.errors import DefinitionError
from tideline.expressions import check_row_expression, expand_columns, names_used, substitute
from tideline.measures import Count, Measure, TopK
from tideline.options import MEASURE_OPTIONS, check_options
from tideline.source import SourceDefinition, check_name
from tideline.spark.columns import EVENT_COLUMNS
from tideline.types import Column, ColumnType, parse_type, schema_text
from tideline.view import View

RESERVED = frozenset({"bucket", "segment", "window", "parts"})


@dataclass(frozen=True)
class Resolved:
    """A catalog's checked sources and views, each by name."""

    sources: Mapping[str, SourceDefinition]
    views: Mapping[str, ViewDefinition]


def resolve_catalog(spark: SparkSession, catalog: Catalog) -> Resolved:
    """The definitions of a catalog. Raises DefinitionError for the first that is wrong."""
    sources = {name: source.resolve() for name, source in catalog.sources.items()}
    views = {}
    for view in catalog.views.values():
        with view.location.of(f"view {view.name}"):
            views[view.name] = _resolve_view(spark, view, sources[view.source.name])
    return Resolved(sources, views)


class _Typer:
    """Types expressions over one source's events."""

    def __init__(self, spark: SparkSession, source: SourceDefinition, columns: Mapping[str, str]) -> None:
        self.events: DataFrame = spark.createDataFrame([], f"{EVENT_COLUMNS}, {schema_text(source.schema)}")
        self.columns = columns
        self.known = [column.name for column in source.schema] + list(columns)
        self.of_one_record = (source.operation, "_timestamp", "_headers") if source.operation else ()

    def type_of(self, role: str, sql: str) -> ColumnType:
        """The type of a row expression. Raises DefinitionError naming the role."""
        check_row_expression(sql, self.known)
        for name in names_used([sql], self.of_one_record):
            raise DefinitionError(
                "NOT_RETRACTABLE",
                role=role,
                expression=sql,
                column=name,
                expected="columns that a retraction has in common with its insertion",
            )
        text = substitute(sql, self.columns)
        try:
            frame = self.events.selectExpr(f"({text}) as x")
        except ParseException as error:
            raise DefinitionError("BAD_EXPRESSION", role=role, expression=sql, reason=_first_line(error)) from None
        except AnalysisException as error:
            raise self._explain(role, sql, error) from None
        except Py4JJavaError as error:  # what is too much for its parser's stack
            reason = str(error.java_exception)[:200]
            raise DefinitionError("BAD_EXPRESSION", role=role, expression=sql[:100], reason=reason) from None
        # The allow-list has refused most of these by name; Spark's own word on the rest is final.
        if not frame._jdf.queryExecution().analyzed().expressions().apply(0).deterministic():
            raise DefinitionError("NOT_DETERMINISTIC", role=role, expression=sql)
        spelled = frame.schema[0].dataType.simpleString()
        try:
            return parse_type(spelled)
        except DefinitionError:
            raise DefinitionError(
                "TYPE_MISMATCH",
                role=role,
                expression=sql,
                type=spelled,
                expected="a plain value: text, number, boolean, date or timestamp",
            ) from None

    def _explain(self, role: str, sql: str, error: AnalysisException) -> DefinitionError:
        condition = error.getCondition() or ""
        if condition.startswith("UNRESOLVED_COLUMN"):
            name = (error.getMessageParameters() or {}).get("objectName", "").strip("`")
            close = difflib.get_close_matches(name, self.known, 3, 0.5)
            return DefinitionError(
                "UNKNOWN_COLUMN", role=role, expression=sql, column=name, similar=close, known=self.known
            )
        if condition.startswith("DATATYPE_MISMATCH"):
            return DefinitionError("TYPE_MISMATCH", role=role, expression=sql, reason=_first_line(error))
        return DefinitionError("BAD_EXPRESSION", role=role, expression=sql, reason=_first_line(error))

    def condition(self, role: str, sql: str | None) -> None:
        """Raises DefinitionError unless `sql` is a condition."""
        if sql is not None and (found := self.type_of(role, sql)).name != "boolean":
            raise DefinitionError("TYPE_MISMATCH", role=role, expression=sql, type=found.sql, expected="boolean")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].split("; line")[0]


def _resolve_measure(typer: _Typer, name: str, measure: Measure) -> Measure:
    if not isinstance(measure, Measure):
        raise DefinitionError(
            "NOT_A_MEASURE", measure=name, found=type(measure).__name__, expected="Count(), Sum(...), ..."
        )
    check_options(measure, MEASURE_OPTIONS)
    typer.condition(f"measure {name}, where", measure.where)
    if isinstance(measure, TopK) and measure.weight:
        measure.check_weight(typer.type_of(f"measure {name}, weight", measure.weight))
    role = f"measure {name}"
    kind = typer.type_of(role, measure.expression) if measure.expression else None
    try:
        return measure.resolve(kind)
    except DefinitionError as error:
        raise DefinitionError(error.condition, **{**error.params, "role": role}) from None


def _retractable(name: str, measure: Measure) -> Measure:
    try:
        return measure.retractable()
    except DefinitionError as error:
        raise DefinitionError(error.condition, **{**error.params, "role": f"measure {name}"}) from None


def _check_names(view: View, source: SourceDefinition, columns: Mapping[str, str]) -> None:
    events = {column.name.lower() for column in source.schema}
    check_name(view.name)
    for name in columns:
        if not name.isidentifier() or name.lower() in events or name.startswith("_"):
            raise DefinitionError(
                "BAD_NAME", name=name, expected="a new name for a derived column, not one of the source's"
            )
    taken = set(RESERVED)
    for role, name in (
        [("key", k) for k in view.key_names]
        + [("measure", m) for m in view.measures]
        + [("answer", a) for a in view.answers]
    ):
        if not name.isidentifier() or name.startswith("_") or name.lower() in taken:
            raise DefinitionError("BAD_NAME", role=role, name=name, taken=sorted(taken), expected="a name of its own")
        taken.add(name.lower())
    if not view.measures:
        raise DefinitionError("NO_MEASURES", expected="at least one measure, such as Count()")


def _resolve_view(spark: SparkSession, view: View, source: SourceDefinition) -> ViewDefinition:
    columns = expand_columns(view.columns)
    _check_names(view, source, columns)
    typer = _Typer(spark, source, columns)
    for name, sql in columns.items():
        typer.type_of(f"column {name}", sql)
    typer.condition("where", view.where)
    key = []
    for name in view.key_names:
        if name not in typer.known:
            raise DefinitionError(
                "UNKNOWN_COLUMN",
                role="key",
                column=name,
                known=typer.known,
                similar=difflib.get_close_matches(name, typer.known, 3, 0.5),
            )
        key.append(Column(name, typer.type_of("key", name)))
    measures = {name: _resolve_measure(typer, name, measure) for name, measure in view.measures.items()}
    for text in view.answers.values():
        Answer(text, measures)
    if source.operation:
        measures = {name: _retractable(name, measure) for name, measure in {**measures, ROWS: Count()}.items()}
    bucket = None if view.bucket is None else to_micros(view.bucket)
    keep = None if view.keep is None else to_micros(view.keep)
    if bucket is not None and bucket <= 0:
        raise DefinitionError(
            "BAD_OPTION", option="bucket", value=str(view.bucket), expected="a length of time above zero"
        )
    if keep is not None and (bucket is None or keep < bucket):
        raise DefinitionError(
            "BAD_OPTION", option="keep", value=str(view.keep), expected="a view with a bucket, and no less than it"
        )
    resolved = ViewDefinition(
        view.name,
        source.name,
        "",
        tuple(key),
        bucket,
        keep,
        measures,
        dict(view.answers),
        columns,
        view.where,
        str(view.location),
    )
    return replace(resolved, fingerprint=fingerprint(resolved, source))
