"""What of the views somebody sees: queries, descriptions and tables cut down to their role."""

from __future__ import annotations

from typing import Any

from serving_layer.lock.roles import EVERYTHING, READ, Role
from serving_layer.query import Query
from serving_layer.reader import Narrow, Reader
from tideline.errors import UsageError


def narrowing(role: Role, *queries: Query) -> Narrow | None:
    """What cuts queries down to what a role may see; None where that is all. Raises Forbidden FORBIDDEN_VIEW."""
    if role is EVERYTHING:
        return None
    for query in queries:
        role.check_view(query.view)
    return None if role.is_whole else role.restrict


def allowed_view(reader: Reader, role: Role, view: str) -> dict[str, Any]:
    """A view's description without what a role does not see. Raises Forbidden, and what `describe` raises."""
    if role is not EVERYTHING:
        role.check_view(view)
    found = reader.describe(view)
    if role.is_whole:
        return found
    hidden = role.hides(reader.definition(view))
    return {
        **found,
        "key": [column for column in found["key"] if column["name"] not in hidden],
        "measures": {name: told for name, told in found["measures"].items() if name not in hidden},
        "answers": {name: told for name, told in found["answers"].items() if name not in hidden},
        "columns": {},
        "where": None,
    }


def allowed_views(reader: Reader, role: Role) -> list[dict[str, Any]]:
    """The descriptions of all views that a role may read."""
    if role.is_whole:
        return [found for found in reader.describe_all() if role.may_read(found["name"])]
    return [allowed_view(reader, role, name) for name in reader.views() if _is_seen(reader, role, name)]


def sql_scope(reader: Reader, role: Role) -> dict[str, Any] | None:
    """The views that a role's statements see, and of each the query for its part, None for all of it; None for all."""
    role.check(READ)
    if role.is_whole and role.views is None:
        return None
    found: dict[str, Any] = {}
    for name in reader.views():
        if role.is_whole and role.may_read(name):
            found[name] = None
        elif _is_seen(reader, role, name):
            query = role.restrict(Query(name), reader.definition(name))
            group = None if query.group_by is None else list(query.group_by)
            measures = None if query.measures is None else list(query.measures)
            fields = {"view": name, "key": query.key, "group_by": group, "measures": measures}
            found[name] = {field: value for field, value in fields.items() if value is not None}
    return found


def _is_seen(reader: Reader, role: Role, view: str) -> bool:
    try:
        role.restrict(Query(view), reader.definition(view))
    except UsageError:
        return False
    return True
