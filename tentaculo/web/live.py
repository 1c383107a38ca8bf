"""Pages that follow by themselves: each viewer is sent what has changed of the page, as Server-Sent Events.

    id: W/"5f0c…"                      the version that the viewer has then, which is the page's ETag
    event: page
    data: [[0,41],"<p>…</p>",[42,9]]   its lines: stretches of the version before (first line, number), and new lines

A viewer says in `Last-Event-ID` which version it has. One that is not known any more gets the whole page. All viewers of a
page cost one rendering. A viewer that reads slowly is sent the latest version when it has taken the one before.
"""

from __future__ import annotations

import asyncio
import html
import time
from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
import structlog
from aiohttp import web

from tentaculo.model.failure import Failure, Problem
from tentaculo.model.scopes import STATUS
from tentaculo.server.caller import when_signed_out
from tentaculo.server.event_stream import StreamConnection, stream_response
from tentaculo.tasks import TaskGroup
from tentaculo.web.documents import Document

log = structlog.get_logger(__name__)

EVERY = 1.1
"""Seconds between two updates: longer than a page is kept, so that each looks at a new one."""
_REST, _LONGEST_REST = 19.0, 5.0
"""The updates of the pages of one kind take one part in twenty of a processor: how many times as long as they took is
waited, and seconds at most."""
HEARTBEAT = 5.0
"""Seconds without a change after which a comment is sent. The script of the page expects one (templates/status.js)."""
MOST_PAGES = 32
"""Different pages of one kind that are followed at once. Others are refused: what makes up filters must not cost more."""
_MOST_KNOWN = 8
"""Versions of a page to which a viewer can be sent the difference."""
_AT_ONCE = 16 * 1024
"""Bytes of a frame that are written without waiting. Larger ones go out as fast as the viewer reads."""
_SHARE = 64
"""Viewers that are written to in one turn of the event loop."""

Wait = Callable[[float], Awaitable[None]]


class Version(NamedTuple):
    """The lines of a page at one time."""

    etag: str
    lines: Sequence[str]


def changes(old: Sequence[str], new: Sequence[str]) -> Iterator[str | list[int]]:
    """How `new` is made from `old`: stretches of it, each by its first line and their number, and lines of their own.

    It takes one step for each line. What has moved is found, and the order of equal lines may be lost for the price of more
    stretches.
    """
    places = {line: place for place, line in enumerate(old)}
    first = number = 0
    for line in new:
        following = first + number
        if number and following < len(old) and old[following] == line:
            number += 1
            continue
        if number:
            yield [first, number]
        # Equal lines, such as closing tags, most often follow what they followed before, or a line that was replaced.
        near = (place for place in (following, following + 1) if place < len(old) and old[place] == line)
        place = next(near, places.get(line))
        first, number = (following, 0) if place is None else (place, 1)
        if place is None:
            yield line
    if number:
        yield [first, number]


class _Stream:
    """The stream of one viewer, who has `version` of the page."""

    def __init__(self, connection: StreamConnection, version: Version | None, fill: Mapping[str, str]) -> None:
        self._connection = connection
        self._version = version
        self._fill = [(name.encode(), html.escape(value).encode()) for name, value in fill.items()]
        self._is_behind = asyncio.Event()
        self._is_writing = False
        self._is_ended = False
        self._scope: asyncio.Timeout | None = None

    async def run(self, page: _LivePage) -> None:
        """Send what `flush` cannot send at once, until the stream ends."""
        try:
            async with asyncio.timeout(0 if self._is_ended else None) as self._scope:
                while True:
                    await self._catch_up(page)
                    await self._is_behind.wait()
                    self._is_behind.clear()
        except TimeoutError:
            await self._connection.end(b"event: end\ndata: {}\n\n")

    async def _catch_up(self, page: _LivePage) -> None:
        self._is_writing = True
        await self._connection.wait_writable()
        while self._version is not page.latest:
            frame, self._version = self._frame(page), page.latest
            await self._connection.write_shared(frame)
        self._is_writing = False

    def _frame(self, page: _LivePage) -> bytes:
        frame = page.frame(self._version)
        for placeholder, value in self._fill:
            frame = frame.replace(placeholder, value)
        return frame

    def flush(self, page: _LivePage) -> None:
        """Send the latest version now, or let `run` send it."""
        if self._version is page.latest or self._is_ended:
            return
        frame = b"" if self._is_writing or self._connection.is_paused else self._frame(page)
        if 0 < len(frame) <= _AT_ONCE:
            self._version = page.latest
            self._connection.send(frame)
        else:
            self._is_behind.set()

    def beat(self, since: float) -> None:
        """Send a comment if nothing was sent after `since`, in the loop's seconds."""
        connection = self._connection
        if connection.written_at <= since and not (self._is_writing or self._is_ended or connection.is_paused):
            connection.send(b": \n\n")

    def end(self) -> None:
        """End it now, whatever it waits for."""
        if not self._is_ended:
            self._is_ended = True
            if self._scope is not None:
                self._scope.reschedule(asyncio.get_running_loop().time())


class _LivePage:
    """One page, its versions and its viewers."""

    def __init__(self, render: Callable[[], Awaitable[Document]]) -> None:
        self.render = render
        self.viewers = 0
        """Those whose stream has not begun included."""
        self.streams: dict[_Stream, None] = {}
        self.known: OrderedDict[str, Version] = OrderedDict()
        self.latest: Version | None = None
        self._frames: dict[str, bytes] = {}

    def take(self, page: Document) -> None:
        """The page as it is now."""
        if self.latest is not None and self.latest.etag == page.etag:
            return
        # The versions share the lines that are equal.
        pool = {line: line for line in self.latest.lines} if self.latest is not None else {}
        lines = [pool.get(line, line) for line in page.body.decode().split("\n")]
        self.latest = self.known[page.etag] = Version(page.etag, lines)
        self.known.move_to_end(page.etag)
        self._frames.clear()
        if len(self.known) > _MOST_KNOWN:
            self.known.popitem(last=False)

    def frame(self, version: Version | None) -> bytes:
        """What leads from `version` to the latest one; all lines for None."""
        assert self.latest is not None
        key = "" if version is None else version.etag
        if key not in self._frames:
            lines = () if version is None else version.lines
            data = msgspec.json.encode(list(changes(lines, self.latest.lines)))
            self._frames[key] = b"id: %b\nevent: page\ndata: %b\n\n" % (self.latest.etag.encode(), data)
        return self._frames[key]


class LivePages:
    """The pages that are being followed. At most `limit` viewers follow at once; `wait` sleeps so many seconds."""

    def __init__(self, tasks: TaskGroup, limit: int, wait: Wait = asyncio.sleep) -> None:
        self._tasks = tasks
        self._limit = limit
        self._wait = wait
        self._kinds: defaultdict[Hashable, dict[Hashable, _LivePage]] = defaultdict(dict)
        """The pages of each kind. Each kind is updated by itself, so that many pages of one do not delay another."""
        self._viewers = 0
        self._updated: set[Hashable] = set()
        """The kinds that have a task."""
        self._is_stopping = False

    def __repr__(self) -> str:
        return f"<LivePages: {self._viewers} of {self._limit} viewers, {sum(map(len, self._kinds.values()))} pages>"

    async def serve(
        self,
        request: web.Request,
        kind: Hashable,
        key: Hashable,
        kept: Document | None,
        render: Callable[[], Awaitable[Document]],
        *,
        fill: Mapping[str, str],
    ) -> web.StreamResponse:
        """Serve one viewer until it leaves, its session ends or the gateway stops.

        `key` says which page of its kind it is, `kept` is an earlier version, and `render` gives it as it is now. `fill` is
        what this viewer gets in place of placeholders in it. Raises `Problem` (OVERLOADED, STOPPING) at the limit and in a stop,
        and what `render` raises, before the response.
        """
        pages = self._kinds[kind]
        self._check(pages, key)
        self._viewers += 1
        try:
            rendered = None if key in pages else await render()
            page = self._join(pages, key, kept, rendered, render)
            try:
                if kind not in self._updated:
                    self._updated.add(kind)
                    self._tasks.start(self._update(kind), "live pages")
                await self._follow(request, page, fill, response := stream_response())
            finally:
                page.viewers -= 1
                if not page.viewers:
                    del pages[key]
            return response
        finally:
            self._viewers -= 1

    def _check(self, pages: Mapping[Hashable, _LivePage], key: Hashable) -> None:
        if self._is_stopping:
            raise Problem(Failure.STOPPING, headers={"Retry-After": "5"})
        if self._viewers >= self._limit or (key not in pages and len(pages) >= MOST_PAGES):
            raise Problem(Failure.OVERLOADED, "Too many pages are followed.", headers={"Retry-After": "10"})

    def _join(
        self,
        pages: dict[Hashable, _LivePage],
        key: Hashable,
        kept: Document | None,
        rendered: Document | None,
        render: Callable[[], Awaitable[Document]],
    ) -> _LivePage:
        page = pages.get(key)
        if page is None:
            assert rendered is not None
            if len(pages) >= MOST_PAGES:
                raise Problem(Failure.OVERLOADED, "Too many pages are followed.", headers={"Retry-After": "10"})
            page = pages[key] = _LivePage(render)
            for one in filter(None, (kept, rendered)):
                page.take(one)
        page.viewers += 1
        return page

    async def _follow(
        self, request: web.Request, page: _LivePage, fill: Mapping[str, str], response: web.StreamResponse
    ) -> None:
        async with StreamConnection.open(request, response) as connection:
            stream = _Stream(connection, page.known.get(request.headers.get("Last-Event-ID", "")), fill)
            page.streams[stream] = None
            forget = when_signed_out(request, stream.end, STATUS)
            if self._is_stopping:
                stream.end()
            try:
                if not connection.has_left:
                    await stream.run(page)
            finally:
                forget()
                del page.streams[stream]

    def stop(self) -> None:
        """End every stream, and accept no new one."""
        self._is_stopping = True
        for pages in self._kinds.values():
            for page in pages.values():
                _end(page)

    async def _update(self, kind: Hashable) -> None:
        """Render what is followed of a kind, and send what has changed, until nobody follows it."""
        pages = self._kinds[kind]
        try:
            while pages:
                used = time.process_time()
                for page in list(pages.values()):
                    await self._update_page(page)
                took = time.process_time() - used
                await self._wait(max(EVERY, min(took * _REST, _LONGEST_REST)))
        finally:
            self._updated.discard(kind)

    async def _update_page(self, page: _LivePage) -> None:
        try:
            page.take(await page.render())
        except Exception:
            # A page that cannot be rendered must not look as if nothing had changed.
            log.exception("page not rendered")
            _end(page)
            return
        since = asyncio.get_running_loop().time() - HEARTBEAT
        for number, stream in enumerate(list(page.streams), 1):
            stream.flush(page)
            stream.beat(since)
            if number % _SHARE == 0:
                await asyncio.sleep(0)


def _end(page: _LivePage) -> None:
    for stream in list(page.streams):
        stream.end()
