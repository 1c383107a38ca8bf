"""The gateway's own paths: how each is declared, which entry a request finds, and the headers and JSON of responses.

A module that has native routes returns a `NativeRoute` for each, which states method, path, handler, access and operation.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec
from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter

from tentaculo.config.accepted_tokens import AuthSettings
from tentaculo.model.access import Access
from tentaculo.model.failure import Failure, Problem
from tentaculo.model.scopes import Needs
from tentaculo.security.cors import CorsPolicy
from tentaculo.server.buffered_handler import PIECE, BufferedHandler, NativeResponse
from tentaculo.server.connection import ClientConnection
from tentaculo.server.gateway_responses import SERVER, safe_headers
from tentaculo.server.request_body import expect_later, read_body

if TYPE_CHECKING:
    from tentaculo.server.openapi import Operation

REQUEST_ID = web.RequestKey("request_id", str)
"""The request's id, set before the handler runs."""
LIMIT_FIELDS = web.RequestKey("limit_fields", dict[str, str])
"""Header fields that say what limits have let the request pass; not set where none counts it."""
STARTED = web.RequestKey("started", int)
"""The status of the response, set once its head is being sent: nothing else can be the response then."""

_HANDLER = web.RequestKey("handler", object)
"""What a request keeps until its end: the response's head is made after the handler has returned."""

SERVICE_PAGE, SERVICE_HISTORY = "/status/services/{service}", "/vx11/history/{service}"
"""Routes that are native for the names of services only. An application has one resource for all services: one for each
would be 20 objects per service and generation, which the garbage collector walks through."""
_BY_STATUS = {
    400: Failure.BAD_REQUEST,
    403: Failure.FORBIDDEN,
    404: Failure.NOT_FOUND,
    405: Failure.METHOD_NOT_ALLOWED,
    408: Failure.REQUEST_TIMEOUT,
    413: Failure.BODY_TOO_LARGE,
    414: Failure.TARGET_TOO_LONG,
    415: Failure.UNSUPPORTED_MEDIA_TYPE,
    431: Failure.HEADERS_TOO_LARGE,
    501: Failure.NOT_IMPLEMENTED,
}
_PARAMETER = re.compile(r"\{[^{}]+\}")


def is_known(request: web.Request, etag: str) -> bool:
    """Whether the sender of `request` has the document with the entity tag `etag`, by its If-None-Match.

    Weak and strong tags are the same here (RFC 9110, section 13.1.2), and no tag of the gateway has a comma. Not
    `request.if_none_match`: to read 30 KB of made-up tags takes it 9 ms of the event loop.
    """
    # There may be thousands: no step of Python for each.
    known = set(map(str.strip, ",".join(request.headers.getall(hdrs.IF_NONE_MATCH, ())).split(",")))
    opaque = etag.removeprefix("W/")
    return not known.isdisjoint((opaque, f"W/{opaque}", "*"))


class NativeRoute(web.AbstractRouteDef):
    """One native route: all that the gateway knows of it is stated here, beside its handler."""

    def __init__(
        self,
        method: str,
        path: str,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
        access: Access,
        describe: Callable[[], Operation] | None,
    ) -> None:
        """A route for GET serves HEAD too. `describe` returns what the OpenAPI document says, and is None where that has
        nothing. A handler that needs the body calls `read_body`."""
        self.method = method
        self.path = path
        self.handler = handler
        self.access = access
        self.describe = describe

    def __repr__(self) -> str:
        return f"<NativeRoute {self.method} {self.path}>"

    def register(self, router: web.UrlDispatcher) -> list[web.AbstractRoute]:
        """Add it to an application. Raises ValueError where the path has a route for the method already."""
        # The library of the WebSocket responds to nothing else.
        with_head = self.method == hdrs.METH_GET and not self.access.checks_origin
        methods = (hdrs.METH_HEAD, self.method) if with_head else (self.method,)
        resource = router.add_resource(self.path)
        if any(known.method == self.method for known in resource):
            raise ValueError(f"{self} is there twice")
        routes = [_Registered(self, method, resource) for method in methods]
        for route in routes:
            resource.register_route(route)
        return [*routes]


class _Registered(web.ResourceRoute):
    """A native route in an application."""

    def __init__(self, native: NativeRoute, method: str, resource: web.Resource) -> None:
        super().__init__(method, native.handler, resource, expect_handler=expect_later)
        self.native = native


def declared(app: web.Application) -> list[NativeRoute]:
    """The native routes of an application."""
    registered = [route for route in app.router.routes() if isinstance(route, _Registered)]
    # A GET is registered for HEAD too.
    return [route.native for route in registered if route.method == route.native.method]


class NativeEntry(NamedTuple):
    """An entry of the route table that a native handler serves."""

    needs_token: bool
    needs: Needs
    checks_origin: bool = False
    service_name: None = None
    key: None = None
    claimed_host: None = None
    is_native: bool = True
    is_redirect: bool = False
    buffered: BufferedHandler | None = None
    """The handler of its POST requests, where it needs no more than fields and body."""


class NativeRoutes:
    """The native routes of an application, by the raw path of a request.

    A path below a route's changing part is native too: below `/a/{id}` that is
    all of `/a/`. Of `SERVICE_PAGE` and `SERVICE_HISTORY` only the paths with a service's name are.
    """

    def __init__(self, app: web.Application, auth: AuthSettings, names: Mapping[str, str] | None = None) -> None:
        """`names` maps names and aliases of services to their names. Raises ValueError where routes of one path have not
        the same access."""
        entries: dict[str, NativeEntry] = {}
        access: dict[str, Access] = {}
        for route in declared(app):
            if access.setdefault(route.path, route.access) != route.access:
                raise ValueError(f"{route} has another access than other methods of its path")
            handler = _buffered_of(route)
            if handler is not None or route.path not in entries:
                is_open, needs = auth.opens(route.access), route.access.needs
                entries[route.path] = NativeEntry(not is_open, needs, route.access.checks_origin, buffered=handler)
        names = names or {}
        for path, known in ((SERVICE_PAGE, names.values()), (SERVICE_HISTORY, names.keys())):
            if (entry := entries.pop(path, None)) is not None:
                entries.update(dict.fromkeys((path.format(service=name) for name in known), entry))
        changing = [path for path in entries if "{" in path]
        self._patterns = [(_pattern(path), entries.pop(path)) for path in changing]
        self._trees = tuple({path[: path.index("{")] for path in changing})
        self._exact = entries

    def __repr__(self) -> str:
        return f"<NativeRoutes: {len(self._exact) + len(self._patterns)}>"

    def find(self, path: str) -> NativeEntry | None:
        """The native route of `path`, None where the path is not native. Raises `Problem` (404) for one that is none of
        the routes in its tree."""
        if path in self._exact:
            return self._exact[path]
        if not path.startswith(self._trees):
            return None
        for pattern, found in self._patterns:
            if pattern.fullmatch(path):
                return found
        raise Problem(Failure.NOT_FOUND)


class NativeHandler:
    """Handles native requests by an application, which is of no use after the last of them.

    aiohttp's application, routes and resources refer to one another: reference counts alone never free them. So they are
    taken apart with the last reference to this handler, which each request has until its end.
    """

    def __init__(
        self, app: web.Application, handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
    ) -> None:
        """`handle` is that of the server of `app`."""
        self._app = app
        self._handle = handle

    def __repr__(self) -> str:
        return f"<NativeHandler: {len(self._app.router)} routes>"

    def __call__(self, request: web.BaseRequest) -> Awaitable[web.StreamResponse]:
        """Respond to `request`, or raise what aiohttp or the route's handler raises."""
        request[_HANDLER] = self
        return self._handle(request)

    def __del__(self) -> None:
        app = self._app
        for resource in app.router.resources():
            vars(resource).clear()
        vars(app.router).clear()
        vars(app).clear()


def buffered(handler: BufferedHandler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """What serves the POST requests of a route by `handler`, without a task where they have arrived whole."""
    return _TaskHandler(handler).handle


class _TaskHandler:
    """Serves the requests of a buffered handler in the task of aiohttp's server: those whose body is still arriving."""

    def __init__(self, handler: BufferedHandler) -> None:
        self.handler = handler

    async def handle(self, request: web.Request) -> web.Response:
        """Respond once the handler does; else raise what it ended with."""
        found = self.handler.body_handler(request.raw_headers)
        body = await read_body(request, found.limit, array_limit=found.array_limit)
        settled: asyncio.Future[NativeResponse] = asyncio.get_running_loop().create_future()

        def respond(result: NativeResponse | Exception) -> None:
            if settled.done():
                return  # the client has left
            if isinstance(result, NativeResponse):
                settled.set_result(result)
            else:
                settled.set_exception(result)

        found.handle(body, respond)
        response = await settled
        return BodyResponse(status=response.status, body=response.body, content_type=response.content_type)


def _buffered_of(route: NativeRoute) -> BufferedHandler | None:
    owner = getattr(route.handler, "__self__", None)
    return owner.handler if isinstance(owner, _TaskHandler) and route.method == hdrs.METH_POST else None


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile("[^{}/]+".join(map(re.escape, _PARAMETER.split(path))))


def set_headers(app: web.Application, cors: CorsPolicy) -> None:
    """Add the gateway's headers to every response of `app`: request id, CORS, and those that keep pages safe.

    They are added when a response is prepared, so that streams carry them too. To be called once, before `app` starts.
    """
    safe = safe_headers()

    async def prepare(request: web.Request, response: web.StreamResponse) -> None:
        request[STARTED] = response.status
        headers = response.headers
        headers["X-Request-ID"] = headers["X-Correlation-Id"] = request[REQUEST_ID]
        headers[hdrs.SERVER] = SERVER
        headers.update(request.get(LIMIT_FIELDS, {}))
        vary = headers.get(hdrs.VARY, "")
        if "origin" not in vary.lower():
            headers[hdrs.VARY] = f"{vary}, Origin" if vary else "Origin"
        if (origin := request.headers.get(hdrs.ORIGIN)) is not None:
            headers.update({name: value for name, value in cors.headers(origin).items() if name != hdrs.VARY})
        if response.status == 101:
            return
        for name, value in safe.items():
            headers.setdefault(name, value)

    app.on_response_prepare.append(prepare)


def from_http(error: web.HTTPException) -> Problem:
    """aiohttp's own refusal as a problem of the same status. Its text is dropped, the allowed methods are kept."""
    failure = _BY_STATUS.get(error.status) or (Failure.BAD_REQUEST if error.status < 500 else Failure.INTERNAL)
    allow = error.headers.get(hdrs.ALLOW)
    detail = f"This path takes {allow.replace(',', ', ')}." if allow else None
    return Problem(failure, detail, headers={hdrs.ALLOW: allow} if allow else {})


SLICE_SECONDS = 0.002
"""How long one slice of a computation may take; the step that passes it is still finished."""

T = TypeVar("T")


class BodyResponse(web.Response):
    """A response whose body is sent piece by piece, as fast as its client reads.

    aiohttp would copy the whole body into the send buffer of each client. Here all clients share it, and the memory
    budget counts it once.
    """

    _connection: ClientConnection | None = None

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send the head."""
        if request.method != "HEAD":
            # Not so where aiohttp's own server runs the application.
            self._connection = request.protocol if isinstance(request.protocol, ClientConnection) else None
        return await super().prepare(request)

    async def write_eof(self, data: bytes = b"") -> None:
        """Send the body, as fast as the client reads."""
        connection, body = self._connection, self.body
        if connection is None or not isinstance(body, bytes) or len(body) <= PIECE:
            await super().write_eof(data)
            return
        self._connection = None
        connection.memory.share(body)
        try:
            for start in range(0, len(body), PIECE):
                await self.write(body[start : start + PIECE])
                await connection.wait_writable()
        finally:
            connection.memory.unshare(body)
        await web.StreamResponse.write_eof(self)


def json_response(value: object, status: int = 200) -> web.Response:
    """A response whose body is `value` as JSON."""
    return BodyResponse(status=status, body=msgspec.json.encode(value), content_type="application/json")


def raw_json(value: object) -> msgspec.Raw:
    """A part of a larger JSON value, encoded ahead."""
    return msgspec.Raw(msgspec.json.encode(value))


class Slices:
    """Runs computations in short slices, one slice per turn of the event loop, and one computation at a time.

    So the loop serves everybody else between two slices, however many clients ask for a large response.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._free = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Slices: {'computing' if self._free.locked() else 'free'}>"

    async def collect(self, steps: Iterable[T]) -> list[T]:
        """Every value of `steps`, which computes each when it is asked for the next."""
        found: list[T] = []
        async with self._free:
            end = self._clock() + SLICE_SECONDS
            for value in steps:
                found.append(value)
                if self._clock() >= end:
                    await asyncio.sleep(0)
                    end = self._clock() + SLICE_SECONDS
        return found

    async def in_thread(self, compute: Callable[[], T]) -> T:
        """What `compute` returns, which cannot be cut into slices. A thread computes it, while no slice does."""
        async with self._free:
            return await asyncio.to_thread(compute)
