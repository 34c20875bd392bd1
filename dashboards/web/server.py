"""HTTP of the board: static files to anybody on this machine, data to who has the token.

The page holds no data and the token stands in the address after ``#``, so it reaches no log; the
script sends it with every request. A request must name this host, and a browser must say that it
comes from this origin: another page that is open in the browser, or a name that was made to resolve
to loopback, gets nothing. There are only GET requests and read-only queries.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, Final

import msgspec
from aiohttp import web
from clickhouse_connect.driver.exceptions import ClickHouseError

from dashboards.lookup import Lookup
from dashboards.macros import Unsupported
from dashboards.web import boards
from ingest.core.errors import Unavailable

log = logging.getLogger(__name__)

_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_LOCAL: Final = ("127.0.0.1", "localhost", "[::1]")
_LOOKUP: Final = web.AppKey("lookup", Lookup)
_TOKEN: Final = web.AppKey("token", str)
_MAX_LIST: Final = 500

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build(lookup: Lookup, token: str) -> web.Application:
    """The board as an application.

    Parameters
    ----------
    lookup
        What it shows.
    token
        Without it nobody gets any data.
    """
    app = web.Application(middlewares=[_guard])
    app[_LOOKUP], app[_TOKEN] = lookup, token
    app.add_routes([web.get(f"/api/{path}", _data(read)) for path, read in _ROUTES.items()])
    app.router.add_get("/static/{name}", _static)
    app.router.add_get("/{page:.*}", _page)
    return app


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    answer: web.StreamResponse
    try:
        answer = _refusal(request) or await handler(request)
    except web.HTTPException as error:
        answer = _error(error.status, error.reason)
    answer.headers.update(_HEADERS)
    return answer


def _refusal(request: web.Request) -> web.Response | None:
    """Why a request gets nothing; None for one that may be answered."""
    host, _, _ = request.host.rpartition(":") if ":" in request.host else (request.host, "", "")
    if host not in _LOCAL:
        return _error(421, f"this board answers to {', '.join(_LOCAL)} only")
    origin = request.headers.get("Origin")
    if origin is not None and origin != f"http://{request.host}":
        return _error(403, "requests of other origins are refused")
    if request.method != "GET":
        return _error(405, "the board only reads")
    if not request.path.startswith("/api/"):
        return None
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        return _error(403, "requests of other sites are refused")
    given = request.headers.get("Authorization", "")
    if not hmac.compare_digest(given.encode(), f"Bearer {request.app[_TOKEN]}".encode()):
        return _error(401, "the token is missing or wrong; `driftline board` prints the address")
    return None


async def _page(request: web.Request) -> web.Response:
    """The one page; which one it shows is decided by its script."""
    if request.path.startswith(("/api/", "/static/")):
        return _error(404, "there is nothing here")
    return _file("index.html")


async def _static(request: web.Request) -> web.Response:
    return _file(request.match_info["name"])


def _file(name: str) -> web.Response:
    folder = files("dashboards") / "web" / "static"
    known = {entry.name for entry in folder.iterdir()}
    kind = _TYPES.get(name.rpartition(".")[2])
    if name not in known or kind is None:
        return _error(404, "there is nothing here")
    return web.Response(body=(folder / name).read_bytes(), headers={"Content-Type": kind})


def _error(status: int, reason: str) -> web.Response:
    body = msgspec.json.encode({"error": reason})
    return web.Response(status=status, body=body, content_type="application/json")


def _query(request: web.Request) -> dict[str, list[str]]:
    return {name: request.query.getall(name) for name in request.query}


def _data(read: Callable[[Lookup, web.Request], Any]) -> Handler:
    """A handler that reads in a thread and answers with JSON."""

    async def handle(request: web.Request) -> web.Response:
        try:
            found = await asyncio.to_thread(read, request.app[_LOOKUP], request)
        except (boards.NotFound, Unsupported, ValueError, OverflowError, OSError) as error:
            return _error(404 if isinstance(error, boards.NotFound) else 400, str(error))
        except Unavailable as error:
            return _error(503, str(error))
        except ClickHouseError as error:
            log.warning("a query of the board failed: %s", error)
            return _error(500, " ".join(str(error).split())[:300])
        if found is None:
            return _error(404, "nothing of this id is stored")
        return web.Response(body=msgspec.json.encode(found), content_type="application/json")

    return handle


def _now() -> datetime:
    return datetime.now(UTC)


def _boards(lookup: Lookup, request: web.Request) -> Any:
    del lookup, request
    found = boards.dashboards().values()
    return [{name: board[name] for name in ("uid", "title", "description")} for board in found]


def _board(lookup: Lookup, request: web.Request) -> Any:
    del lookup
    return boards.dashboard(request.match_info["uid"])


def _view(request: web.Request) -> tuple[str, boards.View]:
    uid = request.match_info["uid"]
    return uid, boards.view_of(uid, _query(request), _now())


def _options(lookup: Lookup, request: web.Request) -> Any:
    return boards.options(lookup, *_view(request))


def _annotations(lookup: Lookup, request: web.Request) -> Any:
    return boards.annotation_rows(lookup, *_view(request))


def _panel(lookup: Lookup, request: web.Request) -> Any:
    uid, view = _view(request)
    return boards.panel_rows(lookup, uid, int(request.match_info["panel"]), view)


def _interactions(lookup: Lookup, request: web.Request) -> Any:
    query = _query(request)
    since, until = boards.time_range(query, _now())
    filters: dict[str, Any] = {name: values[0] for name, values in query.items()}
    if "outcome" in filters:
        filters["outcome"] = int(filters["outcome"] == "1")
    limit = min(int(filters.get("limit", 100)), _MAX_LIST)
    return lookup.interactions(filters, since, until, limit)


def _one(read: Callable[[Lookup, str], Any]) -> Callable[[Lookup, web.Request], Any]:
    return lambda lookup, request: read(lookup, request.match_info["id"])


_ROUTES: Final[dict[str, Callable[[Lookup, web.Request], Any]]] = {
    "boards": _boards,
    "board/{uid}": _board,
    "board/{uid}/options": _options,
    "board/{uid}/annotations": _annotations,
    "board/{uid}/panel/{panel}": _panel,
    "incidents": lambda lookup, _: lookup.incidents(days=30),
    "incident/{id}": _one(Lookup.incident),
    "interactions": _interactions,
    "interaction/{id:.+}": _one(Lookup.interaction),
    "session/{id:.+}": _one(Lookup.session),
    "clusters": lambda lookup, _: {"clusters": lookup.clusters()},
    "cluster/{id}": _one(Lookup.cluster),
    "senders": lambda lookup, _: {"senders": lookup.senders()},
}


async def serve(lookup: Lookup, token: str, port: int) -> None:
    """Serve on 127.0.0.1 until cancelled. Raises OSError when the port is in use."""
    runner = web.AppRunner(build(lookup, token), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()
