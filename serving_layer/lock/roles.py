"""Roles: which actions, views, columns, rows and sources somebody may have; queries are cut down to that."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from serving_layer.plan import key_value
from serving_layer.query import Query, brief, is_several, names, similar
from tideline.answers import Answer
from tideline.definition import ViewDefinition
from tideline.errors import Texts, UsageError
from tideline.expressions import names_used
from tideline.types import Column

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

READ, WRITE, OPERATE = "read", "write", "operate"
ACTIONS = (READ, WRITE, OPERATE)


class AccessError(UsageError):
    """A file of roles that is wrong."""

    texts: ClassVar[Texts] = {
        "ACCESS_UNREADABLE": ("the roles in {path} cannot be read: {reason}", "see docs/security.md for its form"),
        "UNKNOWN_ROLE": ("there is no role {role}", "roles: {known}"),
    }


class Forbidden(UsageError):
    """What a role may not."""

    texts: ClassVar[Texts] = {
        "FORBIDDEN": ("the role {role} may not {action}", "ask whoever runs the server for another role"),
        "FORBIDDEN_VIEW": ("the role {role} may not read view {view}", "views it may read: {known}"),
        "FORBIDDEN_SOURCE": ("the role {role} may not write to source {source}", "ask for another role"),
        "FORBIDDEN_RECORDS": ("the role {role} may not see records as they came", "ask for one without bounds"),
        "FORBIDDEN_COLUMN": ("the role {role} may not see {column} of view {view}", "leave it out"),
    }


@dataclass(frozen=True)
class Role:
    """What a role may. `views` and `sources` None are all; `rows` are the values that key columns may have, `masked`
    the columns that are not shown, as `column` or `view.column`."""

    name: str
    actions: frozenset[str] = frozenset(ACTIONS)
    views: frozenset[str] | None = None
    sources: frozenset[str] | None = None
    rows: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    masked: frozenset[str] = frozenset()

    @property
    def is_whole(self) -> bool:
        """Whether it sees every row and column of the views that it may read."""
        return not self.rows and not self.masked

    @property
    def is_unbounded(self) -> bool:
        """Whether it is kept to no views, rows, columns or sources."""
        return self.is_whole and self.views is None and self.sources is None

    def check(self, action: str) -> None:
        """Raises Forbidden where it may not do so."""
        if action not in self.actions:
            raise Forbidden("FORBIDDEN", role=self.name, action=action)

    def check_source(self, source: str) -> None:
        """Raises Forbidden where it may not write there."""
        self.check(WRITE)
        if self.sources is not None and source not in self.sources:
            raise Forbidden("FORBIDDEN_SOURCE", role=self.name, source=brief(source))

    def check_records(self) -> None:
        """Raises Forbidden where it may not see the log's records as they came: who sees a part of it sees none."""
        self.check(OPERATE)
        if not self.is_unbounded:
            raise Forbidden("FORBIDDEN_RECORDS", role=self.name)

    def may_read(self, view: str) -> bool:
        """Whether it may read a view, or some of it."""
        return READ in self.actions and (self.views is None or view in self.views)

    def check_view(self, view: str) -> None:
        """Raises Forbidden where it may not read a view."""
        self.check(READ)
        if not self.may_read(view):
            raise Forbidden("FORBIDDEN_VIEW", role=self.name, view=brief(view), known=sorted(self.views or ()))

    def hides(self, view: ViewDefinition) -> frozenset[str]:
        """The columns of a view that it does not see: those that are masked, and what is made of them or of columns of
        the events that are called so."""
        place = self.masked, view.name, view.fingerprint, tuple(view.answers.items())
        found = _HIDDEN.get(place)
        if found is None:
            if len(_HIDDEN) >= _MOST_HIDDEN:
                _HIDDEN.clear()
            found = _HIDDEN[place] = _hidden(view, {name.removeprefix(f"{view.name}.") for name in self.masked})
        return found

    def restrict(self, query: Query, view: ViewDefinition) -> Query:
        """The query for what it may see. Raises Forbidden where it asks for more."""
        self.check_view(view.name)
        if self.is_whole:
            return query
        key = [column.name for column in view.key]
        for column in self.rows:
            if column not in key:
                raise Forbidden("FORBIDDEN_VIEW", role=self.name, view=view.name, known=sorted(self.views or ()))
        hidden = self.hides(view)
        self._check_named(query, view.name, hidden)
        columns = {column.name: column for column in view.key}
        mine = {
            name: _both(columns[name], query.key[name], allowed) if name in query.key else allowed
            for name, allowed in self.rows.items()
        }
        found = replace(query, key={**query.key, **mine})
        if hidden & set(key) and query.group_by is None:
            found = replace(found, group_by=tuple(name for name in key if name not in hidden))
        if hidden and query.measures is None:
            found = replace(found, measures=tuple(name for name in (*view.shown, *view.answers) if name not in hidden))
        return found

    def _check_named(self, query: Query, view: str, hidden: Iterable[str]) -> None:
        hidden = frozenset(hidden)
        by = (query.limit_by or "").rpartition(":")[0] if isinstance(query.limit_by, str) else ""
        grouped = names("group_by", query.group_by) or ()
        ordered = [text.lstrip("+-").partition(".")[0] for text in names("order", query.order) or ()]
        for name in (*query.key, *grouped, *(names("measures", query.measures) or ()), *ordered, *by.split(",")):
            if name.strip() in hidden:
                raise Forbidden("FORBIDDEN_COLUMN", role=self.name, column=name.strip(), view=view)


EVERYTHING = Role("everybody")
_HIDDEN: dict[Hashable, frozenset[str]] = {}
_MOST_HIDDEN = 1_000


def _hidden(view: ViewDefinition, masked: set[str]) -> frozenset[str]:
    """The columns of a view that are called so, or made of what is."""
    for name, sql in view.columns.items():
        if _uses([sql], masked):
            masked.add(name)
    hidden = {column.name for column in view.key if column.name in masked}
    for name, measure in view.measures.items():
        if name in masked or _uses(list(measure.row_expressions().values()), masked):
            hidden.add(name)
    for name, text in view.answers.items():
        if name in masked or Answer(text, view.shown).names & hidden:
            hidden.add(name)
    return frozenset(hidden)


def _uses(sqls: Sequence[str], names: Iterable[str]) -> bool:
    """Whether one of these names stands in one of the expressions; letters beyond ASCII are looked for anywhere."""
    text = "\n".join(sqls).casefold()
    return bool(names_used(sqls, names)) or any(not name.isascii() and name.casefold() in text for name in names)


def _both(column: Column, asked: Any, allowed: tuple[str, ...]) -> tuple[str, ...]:
    """The allowed values of a key column, of those that are asked for. Raises UsageError where one is no such value."""
    wanted = {repr(key_value(column, one)) for one in (asked if is_several(asked) else [asked])}
    return tuple(value for value in allowed if repr(key_value(column, value)) in wanted)


@dataclass(frozen=True)
class Access:
    """The roles of a file, and how OIDC and limits are configured in it."""

    roles: Mapping[str, Role]
    oidc: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)

    def role(self, name: str) -> Role:
        """The role of that name. Raises AccessError UNKNOWN_ROLE."""
        if name not in self.roles:
            raise AccessError("UNKNOWN_ROLE", role=name, known=sorted(self.roles), similar=similar(name, self.roles))
        return self.roles[name]


BUILT_IN: Mapping[str, Role] = {
    "admin": Role("admin"),
    "reader": Role("reader", frozenset({READ})),
    "writer": Role("writer", frozenset({WRITE})),
    "operator": Role("operator", frozenset({READ, OPERATE})),
}
"""Roles that are there without a file."""
_ROLE_FIELDS = frozenset({"actions", "views", "sources", "rows", "mask"})
_OIDC_FIELDS = frozenset({"issuer", "audience", "claim", "jwks", "algorithms", "roles"})
_LIMIT_FIELDS = frozenset({"requests_per_second", "burst", "bytes_per_second"})


def load_access(path: Path) -> Access:
    """The roles in a TOML file, with those that are built in; these alone where there is no file.

    Raises AccessError ACCESS_UNREADABLE, which says where it is wrong.
    """
    if not path.exists():
        return Access(BUILT_IN)
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
        _known(raw, frozenset({"roles", "oidc", "limits"}), "the file")
        roles = {name: _role(name, given) for name, given in raw.get("roles", {}).items()}
        oidc, limits = dict(raw.get("oidc", {})), dict(raw.get("limits", {}))
        _known(oidc, _OIDC_FIELDS, "[oidc]")
        _known(limits, _LIMIT_FIELDS, "[limits]")
        if oidc and not (oidc.get("issuer") and oidc.get("audience")):
            raise ValueError("[oidc] needs issuer and audience")
        for name, value in limits.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
                raise ValueError(f"[limits] {name} is not a number above 0")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise AccessError("ACCESS_UNREADABLE", path=str(path), reason=str(error)) from error
    return Access({**BUILT_IN, **roles}, oidc, limits)


def _role(name: str, given: Mapping[str, Any]) -> Role:
    _known(given, _ROLE_FIELDS, f"[roles.{name}]")
    actions = _texts(given.get("actions", [READ]), f"[roles.{name}] actions")
    if wrong := sorted(actions - set(ACTIONS)):
        raise ValueError(f"[roles.{name}] has no action {wrong[0]}; actions: {', '.join(ACTIONS)}")
    rows = given.get("rows", {})
    if not isinstance(rows, Mapping) or not all(isinstance(values, list) and values for values in rows.values()):
        raise ValueError(f"[roles.{name}] rows are not lists of values by key column")
    return Role(
        name,
        actions,
        _texts(given["views"], f"[roles.{name}] views") if "views" in given else None,
        _texts(given["sources"], f"[roles.{name}] sources") if "sources" in given else None,
        {column: tuple(map(str, values)) for column, values in rows.items()},
        _texts(given.get("mask", []), f"[roles.{name}] mask"),
    )


def _texts(value: Any, where: str) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError(f"{where} is not a list of texts")
    return frozenset(value)


def _known(given: Mapping[str, Any], fields: frozenset[str], where: str) -> None:
    if wrong := sorted(set(given) - fields):
        raise ValueError(f"{where} has no entry {wrong[0]}; entries: {', '.join(sorted(fields))}")
