"""The HTTP API: views, their rows, several queries on one snapshot, the status; and the page."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import Body, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, StreamingResponse
from starlette.routing import Match

from serving_layer.exposition import MEDIA_TYPE
from serving_layer.intake import Intake
from serving_layer.letters import find_letters
from serving_layer.limit import MAX_BODY, BodyLimit
from serving_layer.live import Live, Seen
from serving_layer.lock.gate import Gate, Lock, is_stranger, role_of, who_of
from serving_layer.lock.scope import allowed_view, allowed_views, narrowing, sql_scope
from serving_layer.negotiate import Headers, chosen_form, is_known
from serving_layer.openapi import openapi
from serving_layer.page import FILES, FOLDER
from serving_layer.query import Query, brief
from serving_layer.reader import Narrow, Reader
from serving_layer.responses import (
    error_response,
    is_server_fault,
    json_response,
    not_modified,
    rows_response,
    tag_of,
    text_response,
    without_reason,
    without_records,
)
from serving_layer.result import Result
from serving_layer.sql.http import Statement
from serving_layer.sql.process import SqlProcess, busy
from serving_layer.status import without_reasons
from serving_layer.turns import Gone, Turns
from serving_layer.verifying import Verifier
from serving_layer.waiting import Answers
from tideline import __version__
from tideline.errors import OutsideError, TidelineError, UsageError
from tideline.runtime.logs import fields

MAX_QUERIES = 100
PATHS = (
    "/v1/views",
    "/v1/views/{view}",
    "/v1/views/{view}/rows",
    "/v1/views/{view}/changes",
    "/v1/query",
    "/v1/sql",
    "/v1/sources/{source}/events",
    "/v1/dead-letters",
    "/v1/verify",
    "/v1/status",
    "/healthz",
    "/readyz",
    "/metrics",
    "/openapi.json",
    "/",
)
SECURITY = {
    "Content-Security-Policy": "default-src 'self'",
    "X-Content-Type-Options": "nosniff",
}
STREAM = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
log = logging.getLogger(__name__)


def create_app(reader: Reader, lock: Lock | None = None) -> FastAPI:
    """The app over a reader, which it does not close; `lock` says who may ask, by default what its home says."""
    app = FastAPI(
        title="Tideline",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,  # to where the header Host says
    )
    app.state.reader = reader
    answers = app.state.answers = Answers(reader)
    live = app.state.live = Live(reader, answers.turns)
    statements = app.state.sql = SqlProcess(reader.home)
    intake = app.state.intake = Intake(reader.home)
    verifier = app.state.verifier = Verifier(reader.home)
    asking = app.state.asking = Turns(16, 1)  # statements, which one process answers
    writing = Turns(16, 4)  # events
    app.add_middleware(BodyLimit)
    gate = lock or Lock(reader.home)
    app.add_middleware(Gate, lock=gate)
    app.add_exception_handler(TidelineError, _tideline_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(Gone, _gone)
    app.add_exception_handler(Exception, _fault)

    async def rows(view: str, request: Request) -> Response:
        headers = dict(request.scope["headers"])
        params = parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)
        formats = [value for name, value in params if name == "format"]
        form = chosen_form(formats[-1] if formats else None, headers)
        query = Query.from_params(view, [(name, value) for name, value in params if name != "format"])
        role = role_of(request)
        asks = _Rows(reader, narrowing(role, query), role.is_unbounded, form, headers)
        return await answers.answered(request, [query], asks)

    # First, as routes are tried in turn and this one is asked most.
    app.router.add_api_route("/v1/views/{view}/rows", rows, route_class_override=_Direct)

    @app.get("/v1/views/{view}/changes")
    async def changes(view: str, request: Request) -> Response:
        params = parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = {name: value for name, value in params if name in ("every", "last_event_id")}
        query = Query.from_params(view, [(name, value) for name, value in params if name not in given])
        role, last = role_of(request), request.headers.get("last-event-id", given.get("last_event_id"))
        told = None if role.is_unbounded else without_records
        seen = Seen(role.name, narrowing(role, query), lambda: gate.still(request), who_of(request), told)
        events = await live.follow(query, given.get("every"), last, seen)
        return StreamingResponse(events, headers=STREAM, media_type="text/event-stream")

    @app.get("/v1/views")
    def views(request: Request) -> Response:
        return json_response({"views": allowed_views(reader, role_of(request))})

    @app.get("/v1/views/{view}")
    def view(view: str, request: Request) -> Response:
        return json_response(allowed_view(reader, role_of(request), view))

    @app.post("/v1/query")
    async def query(request: Request, body: Annotated[Any, Body()]) -> Response:
        queries = _queries(body)
        role = role_of(request)
        narrow, is_unbounded = narrowing(role, *queries), role.is_unbounded
        return await answers.answered(
            request, queries, lambda queries: _results(reader.query_many(queries, narrow), is_unbounded)
        )

    @app.post("/v1/sql")
    async def sql(request: Request, body: Annotated[Any, Body()]) -> Response:
        role, asked = role_of(request), Statement.read(body, dict(request.scope["headers"]), who_of(request))
        try:
            return await asking.run(
                request, lambda: asked.answer(statements, sql_scope(reader, role), role.is_unbounded), asked.seconds
            )
        except TimeoutError:
            raise busy(asked.seconds) from None

    @app.post("/v1/sources/{source}/events")
    async def events(source: str, request: Request) -> Response:
        role_of(request).check_source(source)
        body = await request.body()
        return json_response(await writing.run(request, lambda: intake.take(reader.ledger(), source, body)), 202)

    @app.get("/v1/dead-letters")
    def dead_letters(request: Request) -> Response:
        role_of(request).check_records()
        return json_response({"dead_letters": find_letters(reader, dict(request.query_params))})

    @app.get("/v1/verify")
    def verified(request: Request) -> Response:
        role_of(request).check_records()
        return json_response(verifier.state())

    @app.post("/v1/verify")
    async def verify(request: Request, body: Annotated[Any, Body()] = None) -> Response:
        role_of(request).check_records()
        return json_response(verifier.start(_views(reader, body)), 202)

    @app.get("/v1/status")
    def status(request: Request) -> Response:
        found = reader.status()
        return json_response(found if role_of(request).is_unbounded else without_reasons(found))

    # These two need no thread, of which others may have all.
    @app.get("/healthz")
    async def health(request: Request) -> Response:
        committed = reader.ledger().committed.to_json()
        return json_response({"ok": True} if is_stranger(request) else {"ok": True, "committed": committed})

    @app.get("/readyz")
    async def ready(request: Request) -> Response:
        found = reader.readiness()
        told = {"ready": found["ready"]} if is_stranger(request) else found
        return json_response(told, 200 if found["ready"] else 503)

    @app.get("/openapi.json", include_in_schema=False)
    def description() -> Response:
        return json_response(openapi())

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(reader.metrics(), headers={"Cache-Control": "no-store"}, media_type=MEDIA_TYPE)

    @app.get("/", include_in_schema=False)
    def page() -> Response:
        return FileResponse(FOLDER / "index.html", headers=SECURITY)

    for name in FILES:
        app.add_api_route(f"/{name}", _static(name), include_in_schema=False)
    return app


class _Direct(APIRoute):
    """A route whose function takes the view's name and the request, and answers with a response.

    To work out the arguments of any other function takes FastAPI as long as a lookup takes in all.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The function itself."""

        async def handle(request: Request) -> Response:
            response: Response = await self.endpoint(request.path_params["view"], request)
            return response

        return handle


@dataclass(frozen=True, slots=True)
class _Rows:
    """How the rows of a query are answered; nothing is read where who asks has them."""

    reader: Reader
    narrow: Narrow | None
    is_unbounded: bool
    form: str
    headers: Headers

    def __call__(self, queries: Sequence[Query]) -> Response:
        (query,) = queries
        if b"if-none-match" in self.headers and not query.waits:
            proof = self.reader.proof(query, self.narrow)
            tag = tag_of(proof if self.is_unbounded else proof.without_reason, self.form)
            if is_known(tag, self.headers):
                return not_modified(tag)
        found = self.reader.query(query, self.narrow)
        return rows_response(found if self.is_unbounded else without_reason(found), self.form, self.headers)


def _results(results: Sequence[Result], is_unbounded: bool) -> Response:
    shown = results if is_unbounded else map(without_reason, results)
    return text_response(f'{{"results":[{",".join(result.to_text() for result in shown)}]}}')


def _static(name: str) -> Callable[[], Response]:
    return lambda: FileResponse(FOLDER / name, headers=SECURITY)


def _queries(body: Any) -> list[Query]:
    """The queries of `{"queries": [{...}]}`. Raises UsageError."""
    found = body.get("queries") if isinstance(body, dict) and set(body) == {"queries"} else None
    if not isinstance(found, list) or not found or not all(isinstance(item, dict) for item in found):
        raise _bad_body("the body is not an object with a list of queries")
    if len(found) > MAX_QUERIES:
        raise _bad_body(f"the body has {len(found)} queries, more than {MAX_QUERIES}")
    return [Query.from_json(item) for item in found]


def _views(reader: Reader, body: Any) -> list[str]:
    """The views of `{"views": [...]}`, all of which are there; none of no body. Raises UsageError."""
    found = body.get("views", []) if isinstance(body, dict) and set(body) <= {"views"} else [] if body is None else None
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise UsageError(
            "BAD_REQUEST_BODY", "the body is not an object with a list of views", 'post {"views": []} for all'
        )
    for name in found:
        reader.definition(name)
    return found


def _bad_body(message: str, **params: Any) -> UsageError:
    hint = 'post JSON such as {"queries": [{"view": "revenue"}]}'
    return UsageError("BAD_REQUEST_BODY", message, hint, **params)


def _place(request: Request) -> dict[str, Any]:
    """For the log: the cut that answers end at, where the store can still be read."""
    try:
        ledger = request.app.state.reader.ledger()
    except TidelineError:
        return fields(layer="serve")
    return fields(layer="serve", cut=ledger.committed, version=ledger.version.id)


async def _tideline_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, TidelineError):
        return await _fault(request, error)
    if is_server_fault(error):
        log.error("%s %s: %s", request.method, request.url.path, error, extra=_place(request))
    return error_response(error if role_of(request).is_unbounded else without_records(error))


async def _http_error(request: Request, error: Exception) -> Response:
    code = getattr(error, "status_code", 500)
    path, method = brief(request.url.path), request.method
    if code == 404:
        known = f"paths: {', '.join(PATHS)}"
        return error_response(
            UsageError("UNKNOWN_PATH", f"there is nothing at {path}", known, path=path, known=list(PATHS))
        )
    if code == 405:
        routes = (route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE)
        allowed = ", ".join(sorted({name for route in routes for name in getattr(route, "methods", None) or ()}))
        refused = UsageError(
            "METHOD_NOT_ALLOWED",
            f"{path} does not take {method}",
            f"use {allowed}",
            path=path,
            method=method,
            allowed=allowed,
        )
        return error_response(refused, {"Allow": allowed})
    if code == 413:
        text, hint = f"the body has more than {MAX_BODY} bytes", "ask fewer queries at a time"
        return error_response(UsageError("BODY_TOO_LARGE", text, hint, limit=MAX_BODY))
    return error_response(_bad_body(str(getattr(error, "detail", error)), path=path))


async def _validation_error(request: Request, error: Exception) -> Response:
    reasons = [str(found.get("msg")) for found in getattr(error, "errors", list)()]
    return error_response(_bad_body(f"the request cannot be read: {'; '.join(reasons)}", path=request.url.path))


async def _gone(request: Request, error: Exception) -> Response:
    return Response(None, 499)  # which nobody reads


async def _fault(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error, extra=_place(request))
    kind = type(error).__name__
    message, hint = "the server failed on this request", "its log says why; please report it"
    return error_response(OutsideError("INTERNAL_FAULT", message, hint, error=kind))
