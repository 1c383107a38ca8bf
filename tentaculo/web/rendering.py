"""Renders the pages: each at most once a second however many ask for it, one at a time, and in slices."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Awaitable, Callable, Hashable, Mapping
from datetime import UTC, datetime
from functools import lru_cache, partial
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import msgspec
from aiohttp import hdrs, web
from markupsafe import Markup

from tentaculo.model.failure import Failure, Problem
from tentaculo.model.page import PageInfo
from tentaculo.server import templating
from tentaculo.server.caller import session_of
from tentaculo.server.content_negotiation import LANGUAGES, takes_gzip, weight_named, weight_of, weights
from tentaculo.server.event_stream import MEDIA_TYPE
from tentaculo.server.native_routes import Slices
from tentaculo.web import languages, timeline, wording
from tentaculo.web.confirmation import DONE, confirmed, forget
from tentaculo.web.documents import Document
from tentaculo.web.live import LivePages, Wait

if TYPE_CHECKING:
    import jinja2

HTML = "text/html; charset=utf-8"
_KEPT = 1.0
"""Seconds for which one rendered page is reused. It limits the cost of many requests."""
_MOST_KEPT = 8
"""Rendered pages that are kept of one kind."""
_REST, _LONGEST_REST = 2.0, 0.5
"""How long no page is rendered after one: so many times as long as it took, and seconds at most. Made-up filters get a
part of the processor, and no more."""
_COMMON_STYLES = ("base.css", "status.css")
_OWN_STYLES = {
    "status.html": "overview.css",
    "service.html": "service.css",
    "incident.html": "service.css",
    "incidents.html": "service.css",
    "events.html": "events.css",
}
"""By template, the style sheet that it has beside the common ones."""
_PIECES = 64
"""Pieces of a page that are made in one step."""
_MOST_AWAITED = 20
"""Different pages of one kind that are waited for at once."""
FORM_TOKEN, NEXT, WRITTEN, CONFIRMED = (
    f"{name}-{secrets.token_hex(16)}" for name in ("form", "next", "written", "done")
)
"""What stands in a rendered page for the form token of a session, for where a sign-in leads, for what was written in a form
that came too late, and for what was done: a page is rendered once for all viewers who see the same, and these are put in for
each. No text of a service can hold them."""
_CONFIRMATION = Markup(
    '<p class="done" role="status"><svg class="i" viewBox="0 0 24 24" aria-hidden="true"><use href="#i-up"/></svg><span>{}</span></p>'
)
_TIME = Markup('<time datetime="{:%Y-%m-%dT%H:%M:%SZ}" title="{:%Y-%m-%d %H:%M:%S} UTC">{}</time>')
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="#fff" stroke-width="2.6" '
    'stroke-linecap="round" stroke-linejoin="round"><circle cx="12" cy="12" r="12" stroke="none" fill="{}"/>{}</svg>'
)
_DASH = '<path d="M7.5 12h9"/>'
_ICONS = {
    "up": ("#0a7548", '<path d="m7 12.4 3.4 3.4L17 9"/>'),
    "slow": ("#a86b00", '<path d="M12 6.5v6.5m0 4v.1"/>'),
    "down": ("#b3221b", '<path d="m8 8 8 8m0-8-8 8"/>'),
    "plan": ("#3352c8", '<path d="M10 8v8m4-8v8"/>'),
    "silent": ("#5d676d", '<path d="M9 9.5a3 3 0 1 1 4 2.8c-.7.3-1 .8-1 1.7m0 3v.1"/>'),
}


def moment(then: datetime, text: str) -> Markup:
    """`text`, which says when `then` was, with the exact time in UTC."""
    exact = then.astimezone(UTC)
    return _TIME.format(exact, exact, text)


@lru_cache(maxsize=8)
def icon(tone: str) -> str:
    """The tab's icon, which says the state by colour and by sign."""
    colour, sign = _ICONS.get(tone, ("#5d676d", _DASH))
    return "data:image/svg+xml," + quote(_ICON.format(colour, sign))


@lru_cache(maxsize=len(LANGUAGES))
def _script_words(t: languages.Language) -> str:
    """What the page's script writes, as JSON."""
    return msgspec.json.encode({**t.section("script"), "months": t.short_months, "icon": icon("silent")}).decode()


def _takes_events(request: web.Request) -> bool:
    """Whether `request` asks for an event stream, and rates it no lower than the page."""
    accepted = ",".join(request.headers.getall(hdrs.ACCEPT, ()))
    wanted = weight_named(accepted, MEDIA_TYPE)
    return wanted > 0 and wanted >= weight_of(weights(accepted), "text/html")


def _finished(page: Document, values: Mapping[str, str], *, is_compressed: bool) -> Document:
    """`page` with `values` in place of the placeholders, compressed for a client that takes that."""
    page = page.filled(values) if values else page
    if is_compressed:
        page.compress()
    return page


class _Look(NamedTuple):
    """What is the same in all pages of a template: the style, and the policy that allows it."""

    style: str
    policy: str


class _Rendered(NamedTuple):
    """A page, and when its rendering began and ended, by the clock."""

    began: float
    ended: float
    page: Document


class _Kind:
    """The pages of one template, those with a query apart: what makes up queries delays no page that has none."""

    def __init__(self) -> None:
        self.kept: OrderedDict[Hashable, _Rendered] = OrderedDict()
        """By key."""
        self.turn = asyncio.Lock()
        """Held by the one page of this kind that is rendered next. So each kind waits for one page of each other kind."""
        self.awaited: Counter[Hashable] = Counter()


class Renderer:
    """Renders templates with the style and the script of the status pages. `clock` is monotonic."""

    def __init__(
        self,
        slices: Slices,
        clock: Callable[[], float] = time.monotonic,
        *,
        info: PageInfo | None = None,
        live: LivePages | None = None,
        wait: Wait = asyncio.sleep,
    ) -> None:
        """`slices` are those of all pages. `info` has their name, and the zone of their times. `live` serves those who follow one.

        `wait` sleeps so many seconds. It reads files, so call it in a thread.
        """
        languages.catalogue()
        self.slices = slices
        self._clock = clock
        self._info = info or PageInfo()
        self._live = live
        self._wait = wait
        self._script = templating.inline("status.js")
        self._common_look = self._look()
        self._looks = {template: self._look(own) for template, own in _OWN_STYLES.items()}
        self._kinds: defaultdict[tuple[str, bool], _Kind] = defaultdict(_Kind)
        self._loaded: dict[str, jinja2.Template] = {}
        self._rendering = asyncio.Lock()
        self._rest_until = 0.0

    def __repr__(self) -> str:
        return f"<Renderer: {sum(len(kind.kept) for kind in self._kinds.values())} pages kept>"

    def _look(self, *own: str) -> _Look:
        style = templating.inline(*_COMMON_STYLES, *own)
        policy = templating.content_security_policy(styles=[style], scripts=[self._script], has_forms=True)
        return _Look(style.text, policy)

    async def respond(
        self,
        request: web.Request,
        key: Hashable,
        template: str,
        context: Callable[[], Awaitable[dict[str, Any]]],
        *,
        media_type: str = HTML,
        status: int = 200,
        fill: Mapping[str, str] | None = None,
    ) -> web.StreamResponse:
        """The page of `template` with everything that `context` returns, its `viewer` among it.

        `key` says which page it is, and for whom. `fill` are values for placeholders in it. A browser does not store the page
        of a session, which its next user could open. To a request that takes an event stream it is what changes of
        the page, until its sender leaves.

        While too many wait for other pages of its kind it is an older one, and `Problem` (OVERLOADED) where none is kept.
        """
        session = session_of(request)
        # A person sees what they have just done.
        after = session.acted_at if session is not None else float("-inf")
        kind = self._kinds[template, bool(request.query_string)]
        kept = kind.kept.get(key)
        values = dict(fill or {})
        if session is not None:
            values |= {FORM_TOKEN: session.form_token, CONFIRMED: ""}
        is_crowded = key not in kind.awaited and len(kind.awaited) >= _MOST_AWAITED
        if is_crowded and kept is None:
            raise Problem(Failure.OVERLOADED, "Too many pages are asked for.", headers={hdrs.RETRY_AFTER: "1"})
        if self._live is not None and request.method == "GET" and media_type == HTML and _takes_events(request):
            known = kept.page if kept is not None else None
            return await self._live.serve(
                request, kind, key, known, lambda: self._rendered(kind, key, template, context), fill=values
            )
        if kept is None or (self._is_old(kept, after) and not is_crowded):
            page = await self._rendered(kind, key, template, context, after)
        else:
            page = kept.page
        headers = {
            hdrs.CONTENT_TYPE: media_type,
            # May be kept, but must be asked for each time. So Vary need not name Accept, although an event stream is
            # served here too; named, it would keep the page's script from reading the copy that the browser has.
            hdrs.CACHE_CONTROL: "no-cache, private",
            "Content-Security-Policy": self._looks.get(template, self._common_look).policy,
            # With `no-referrer` browsers would send the forms of the page with the Origin `null`.
            "Referrer-Policy": "same-origin",
        }
        done = confirmed(request, session.form_token) if session is not None else None
        if done is not None:
            values[CONFIRMED] = self._confirmation(*done, languages.language(languages.language_of(request)))
        if values:
            headers[hdrs.CACHE_CONTROL] = "no-store"
        is_compressed = takes_gzip(request.headers.get(hdrs.ACCEPT_ENCODING, ""))
        if values or (is_compressed and not page.is_compressed):
            page = await asyncio.to_thread(_finished, page, values, is_compressed=is_compressed)
        response = page.respond(request, headers, vary=("Accept-Language", hdrs.COOKIE), status=status)
        languages.remember(request, response)
        if done is not None:
            forget(response)
        return response

    def _confirmation(self, done: str, at: datetime, t: languages.Language) -> Markup:
        time = moment(at, t.clock(at, datetime.now(self._info.zone)))
        return _CONFIRMATION.format(t.html(DONE[done], time=time))

    def _is_old(self, kept: _Rendered, after: float) -> bool:
        """Whether a page is rendered again: a second later, or where what it shows was read before the time `after`."""
        return self._clock() - kept.ended >= _KEPT or kept.began <= after

    async def _rendered(
        self,
        kind: _Kind,
        key: Hashable,
        template: str,
        context: Callable[[], Awaitable[dict[str, Any]]],
        after: float = float("-inf"),
    ) -> Document:
        """The page as it is after those before it were rendered."""
        kind.awaited[key] += 1
        try:
            async with kind.turn, self._rendering:
                kept = kind.kept.get(key)
                if kept is None or self._is_old(kept, after):
                    await self._wait(max(self._rest_until - time.monotonic(), 0))
                    kept = kind.kept[key] = await self._timed(template, context)
                    kind.kept.move_to_end(key)
                    if len(kind.kept) > _MOST_KEPT:
                        kind.kept.popitem(last=False)
                return kept.page
        finally:
            kind.awaited[key] -= 1
            if not kind.awaited[key]:
                del kind.awaited[key]

    async def _timed(self, template: str, context: Callable[[], Awaitable[dict[str, Any]]]) -> _Rendered:
        """The page. A rest follows, also where its client has left in the middle or it failed."""
        began, used = self._clock(), time.process_time()
        try:
            page = await self._render(template, context)
        finally:
            rest = min((time.process_time() - used) * _REST, _LONGEST_REST)
            self._rest_until = time.monotonic() + rest
        return _Rendered(began, self._clock(), page)

    async def _render(self, template: str, context: Callable[[], Awaitable[dict[str, Any]]]) -> Document:
        loaded = self._loaded.get(template)
        if loaded is None:
            loaded = self._loaded[template] = await asyncio.to_thread(templating.template, template)
        values = await context()
        zone, t = self._info.zone, values["viewer"].texts
        pieces = iter(
            loaded.generate(
                style=self._looks.get(template, self._common_look).style,
                script=self._script.text,
                site=self._info.title,
                zone=zone,
                utc=UTC,
                zone_name=languages.zone_name(datetime.now(zone)),
                form_token=FORM_TOKEN,
                confirmed=CONFIRMED,
                t=t,
                rects=timeline.rects,
                symbol=wording.symbol,
                moment=moment,
                marked=partial(wording.marked, clock=partial(t.clock, now=datetime.now(zone))),
                script_words=_script_words(t),
                languages=LANGUAGES,
                **values,
            )
        )
        # A page has thousands of pieces, of some microseconds each.
        parts = await self.slices.collect("".join(some) for some in iter(lambda: list(islice(pieces, _PIECES)), []))
        return await asyncio.to_thread(lambda: Document.of("".join(parts).encode("utf-8", "replace")))
