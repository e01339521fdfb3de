"""The HTTP API: views, their rows, several queries on one snapshot, the status; and the page."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Annotated, Any
from urllib.parse import parse_qsl

from anyio import CapacityLimiter, to_thread
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
from serving_layer.query import Query
from serving_layer.reader import Narrow, Reader
from serving_layer.responses import (
    error_response,
    is_server_fault,
    json_response,
    not_modified,
    rows_response,
    tag_of,
    text_response,
    without_records,
)
from serving_layer.result import Result
from serving_layer.sql.http import sql_response
from serving_layer.sql.process import SqlProcess
from serving_layer.verifying import Verifier
from tideline import __version__
from tideline.errors import OutsideError, TidelineError, UsageError
from tideline.runtime.logs import fields

MAX_QUERIES = 100
MOST_WAITS = 64  # queries that wait for a cut at one time; more wait for their turn
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
    live = app.state.live = Live(reader)
    statements = app.state.sql = SqlProcess(reader.home)
    intake = app.state.intake = Intake(reader.home)
    verifier = app.state.verifier = Verifier(reader.home)
    threads = Threads()
    app.add_middleware(BodyLimit)
    gate = lock or Lock(reader.home)
    app.add_middleware(Gate, lock=gate)
    app.add_exception_handler(TidelineError, _tideline_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(Exception, _fault)

    async def rows(view: str, request: Request) -> Response:
        headers = dict(request.scope["headers"])
        params = parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)
        formats = [value for name, value in params if name == "format"]
        form = chosen_form(formats[-1] if formats else None, headers)
        query = Query.from_params(view, [(name, value) for name, value in params if name != "format"])
        narrow = narrowing(role_of(request), query)
        return await threads.answered(reader, [query], lambda: _rows(reader, query, narrow, form, headers))

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
        narrow = narrowing(role_of(request), *queries)
        return await threads.answered(reader, queries, lambda: _results(reader.query_many(queries, narrow)))

    @app.post("/v1/sql")
    async def sql(request: Request, body: Annotated[Any, Body()]) -> Response:
        headers = dict(request.scope["headers"])
        role = role_of(request)
        return await threads.ask(lambda: sql_response(statements, body, headers, sql_scope(reader, role)))

    @app.post("/v1/sources/{source}/events")
    async def events(source: str, request: Request) -> Response:
        role_of(request).check_source(source)
        body = await request.body()
        return json_response(await threads.send(lambda: intake.take(reader.ledger(), source, body)), 202)

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
    def status() -> Response:
        return json_response(reader.status())

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


class Threads:
    """Threads for what may take long: so many for each kind, so that none of them has to wait for another kind."""

    def __init__(self) -> None:
        self._answers, self._waits, self._statements, self._events = (
            CapacityLimiter(most) for most in (40, MOST_WAITS, 16, 16)
        )

    async def answered(self, reader: Reader, queries: Sequence[Query], answer: Callable[[], Response]) -> Response:
        """The answer to queries, at once where it takes less time than a thread would."""
        if reader.is_quick(queries):
            return answer()
        waits = any(query.waits for query in queries)
        return await to_thread.run_sync(answer, limiter=self._waits if waits else self._answers)

    async def ask(self, answer: Callable[[], Response]) -> Response:
        """The answer to a statement."""
        return await to_thread.run_sync(answer, limiter=self._statements)

    async def send(self, work: Callable[[], Any]) -> Any:
        """What writing events gives."""
        return await to_thread.run_sync(work, limiter=self._events)


def _rows(reader: Reader, query: Query, narrow: Narrow | None, form: str, headers: Headers) -> Response:
    """The rows of a query; nothing is read where who asks has them."""
    if b"if-none-match" in headers and not query.waits:
        tag = tag_of(reader.proof(query, narrow), form)
        if is_known(tag, headers):
            return not_modified(tag)
    return rows_response(reader.query(query, narrow), form, headers)


def _results(results: Sequence[Result]) -> Response:
    return text_response(f'{{"results":[{",".join(result.to_text() for result in results)}]}}')


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
    path, method = request.url.path, request.method
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


async def _fault(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error, extra=_place(request))
    kind = type(error).__name__
    message, hint = "the server failed on this request", "its log says why; please report it"
    return error_response(OutsideError("INTERNAL_FAULT", message, hint, error=kind))
