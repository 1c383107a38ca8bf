"""One request by a route with a group of targets. Loaded only where a route has a group.

1. Read the body, at most 1 MiB of it, where a value of it is to be set. 100 Continue is sent for it.
2. Choose a target: the one that the caller names, else by what was learned, else the first healthy one.
3. Set one JSON value of the body, with the framing that fits. Every other request is forwarded as it came.
4. Forward as by any route. The response is copied as it passes, at most 64 KiB of it.
5. Learn from the outcome, before the record is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Final

from tentaculo.model.failure import Blame, Failure, Problem, UpstreamError
from tentaculo.model.target_group import TargetRecord
from tentaculo.net.http1 import field_name
from tentaculo.net.response_bytes import SentResponse
from tentaculo.proxy.handler import DrivenExchange
from tentaculo.proxy.json_value import JsonValue, ResponseCopy
from tentaculo.proxy.proxied_request import JudgedRequest, Wait
from tentaculo.proxy.target_group import TARGET_HEADER, UNNAMED, Target, TargetGroup, unknown_target
from tentaculo.proxy.upload import UploadPace
from tentaculo.upstream.connection import UpstreamConnection

MOST_CHANGED: Final = 1024 * 1024
"""Bytes of a body that is read to set a value in it."""
_SIGNED: Final = frozenset((b"signature", b"signature-input", b"x-amz-content-sha256", b"x-hub-signature-256"))
"""Fields that say that the body was signed: changing it would make the signature wrong."""
_DIGESTS: Final = frozenset((b"content-digest", b"repr-digest", b"digest", b"content-md5"))
"""Fields that are dropped with a changed body, which they no longer describe."""
_REFRAMED: Final = _DIGESTS | {b"content-length", b"transfer-encoding", b"trailer", TARGET_HEADER}
_FAILED: Final = frozenset(failure.error for failure in Failure if failure.blame is Blame.UPSTREAM)


class RotatedExchange(DrivenExchange):
    """One request. It is driven as every other one."""

    __slots__ = (
        "_choice",
        "_copy",
        "_encoding",
        "_group",
        "_has_continued",
        "_held",
        "_is_changed",
        "_judged",
        "_read",
    )

    _judged: JudgedRequest

    def begin(self, judged: JudgedRequest | None) -> Wait | None:
        """Take the first steps. `judged` is never None: the target of a repeated request may be another one."""
        assert judged is not None
        group = judged.route.group
        assert isinstance(group, TargetGroup)
        self._judged, self._group = judged, group
        self._choice: tuple[Target, TargetRecord] | None = None
        self._copy: ResponseCopy | None = None
        self._encoding = b""
        """Of the response, in lower case."""
        self._has_continued = self._is_changed = False
        self._read: list[bytes] | None = None
        """What has been read of the body, while more of it is awaited."""
        self._held = 0
        self.shared.traffic.in_flight += 1
        if self.inbound.minor == 1:
            self.request.protocol.has_response = False
        try:
            # The service of the route may be off while that of a target is on.
            self._check(judged.route, may_be_off=group.is_on)
            if not self._may_change():
                return self._start(None, is_whole=False)
            if self.request.content.is_eof():
                return self._start(self.request.content.read_nowait(), is_whole=True)
            self._read = []
            return Wait.BODY
        except Exception as error:  # noqa: BLE001 - logged there
            self._end_with(error)
            return None

    def _may_change(self) -> bool:
        """Whether a value of the body may be set: it is JSON in plain bytes, not too large, and not signed."""
        inbound = self.inbound
        if self._group.set_at is None or not (inbound.is_chunked or 0 < (inbound.length or 0) <= MOST_CHANGED):
            return False
        content_type = b""
        for lower, _, value in inbound.fields.lines:
            if lower in _SIGNED or (lower == b"content-encoding" and value.strip().lower() != b"identity"):
                return False
            if lower == b"content-type":
                content_type = value.partition(b";")[0].strip().lower()
        return content_type == b"application/json" or content_type.endswith(b"+json")

    # -- the body ----------------------------------------------------------------------------------------------

    async def _wait(self, wait: Wait) -> None:
        if wait is not Wait.BODY:
            await super()._wait(wait)
            return
        try:
            await self._until_ended(self._read_body(), self._judged.route)
        except UpstreamError as error:
            raise Problem(error.failure, error.detail) from None
        except (ConnectionError, Problem):
            raise
        except Exception as error:  # noqa: BLE001 - reported
            # What broke the reading side is the client's: the service has seen nothing.
            raise Problem(Failure.BAD_REQUEST, f"The request's body broke off ({type(error).__name__}).") from None

    async def _read_body(self) -> None:
        """Read until the body ends, or is too large to be changed, or the gateway holds too many bytes."""
        inbound, plan, memory = self.inbound, self._judged.route, self.shared.needs.turns.memory
        assert self._read is not None
        if inbound.minor == 1 and (inbound.fields.expect or b"").lower() == b"100-continue":
            self._has_continued = True
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        pace = UploadPace(plan.limits, self.request.protocol)
        while self._held <= MOST_CHANGED and not memory.is_exhausted:
            data = await pace.read(self.request.content, self._held)
            if not data:
                return
            self._read.append(data)
            self._held += len(data)
            memory.hold(self, self._held)
            if plan.max_body and self._held > plan.max_body:
                raise Problem(Failure.BODY_TOO_LARGE, f"The body is larger than {plan.max_body} bytes.")

    def advance(self, error: UpstreamError | None = None) -> Wait | None:
        """Take every step that can be taken now: the first one is the choice, once the body has been read."""
        if self._read is None or self.is_over:
            return super().advance(error)
        pieces, self._read = self._read, None
        try:
            content = self.request.content
            is_whole = content.is_eof()
            if is_whole:
                # The end may have come after the last read.
                pieces.append(content.read_nowait())
            return self._start(b"".join(pieces), is_whole=is_whole)
        except Exception as other:  # noqa: BLE001 - logged there
            self._end_with(other)
            return None

    # -- the choice --------------------------------------------------------------------------------------------

    def _start(self, body: bytes | None, *, is_whole: bool) -> Wait | None:
        """Choose, prepare, and take the next steps. `body` is what was read of it; `is_whole` is whether that is all."""
        judged, group = self._judged, self._group
        is_readable = is_whole and body is not None and len(body) <= MOST_CHANGED
        changed = self._choose(group, body if is_readable else None)
        assert self._choice is not None
        target = self._choice[0]
        self._aim(judged, target)
        response = self.prepare(judged)
        if response is not None:
            return self._end(response)
        if changed is not None or self._has_continued or self._names_target():
            self.admitted.head = self._head(None if changed is None else len(changed))
        if changed is not None:
            self._body, self._is_changed = changed, True
        elif is_whole and body is not None:
            self._body = body
        elif self.inbound.length or self.inbound.is_chunked:
            self._take_body()
            if self._upload is not None and body:
                self._upload.begin_with(body)
        return super().advance()

    def _choose(self, group: TargetGroup, body: bytes | None) -> bytes | None:
        """Choose the target. Returns the body with its value set; None where the body stays as it is."""
        name = self.inbound.first(TARGET_HEADER)
        place = JsonValue.find(body, group.set_at) if body is not None and group.set_at is not None else None
        if name is not None:
            self._choice = group.named(name, is_header=True)
            if self._choice is None:
                raise unknown_target()
            return place.set(self._choice[0].text) if place is not None else None
        if group.set_at is None:
            self._choice = group.choose()
            return None
        value = place.value if place is not None else None
        if place is None or not (value is None or (isinstance(value, str) and value in UNNAMED)):
            named = group.named(value, is_header=False) if isinstance(value, str) else None
            self._choice = named or group.first()
            return None
        self._choice = group.choose()
        return place.set(self._choice[0].text)

    def _aim(self, judged: JudgedRequest, target: Target) -> None:
        """Let the request go to `target`."""
        old, plan = judged.route.route, target.plan
        path, mark, query = judged.target.partition("?")
        if plan.route is not old and path != "*":
            # From the client's path: a prefix that was cut to nothing has become "/", as has one with a slash behind it.
            rest = "" if old.exact else judged.inbound.target.path[len(old.base) :]
            judged.target = (plan.route.replacement + rest or "/") + mark + query
        judged.route = plan
        self.record.service, self.record.route = plan.service_name, plan.key

    def _names_target(self) -> bool:
        return any(lower == TARGET_HEADER for lower, _, _ in self.inbound.fields.lines)

    def _head(self, length: int | None) -> bytes:
        """The head for the service, without the target's header; and for a body of another `length`, if there is one."""
        gone = _REFRAMED if length is not None else {TARGET_HEADER}
        lines = self.admitted.head.splitlines(keepends=True)
        kept = [
            line
            for line in lines[1:]
            if (name := field_name(line)) not in gone and not (self._has_continued and name == b"expect")
        ]
        if length is not None:
            kept.append(b"Content-Length: %d\r\n" % length)
        return b"".join((lines[0], *kept))

    # -- forwarding --------------------------------------------------------------------------------------------

    def frame(self, body: bytes) -> bytes:
        """A changed body is sent with its length, and without trailers."""
        return body if self._is_changed else super().frame(body)

    def _send(self, connection: UpstreamConnection) -> None:
        # Another attempt brings another response.
        self._copy = ResponseCopy() if self._group.reads_responses else None
        super()._send(connection)

    def relay(self, connection: UpstreamConnection) -> Wait | None:
        """Relay what has arrived, and copy it. The copy delays nothing."""
        copy, reader = self._copy, connection.response
        if copy is not None and reader.head is not None:
            fields = reader.fields
            if fields is None or fields.is_event_stream:
                self._copy = None
            else:
                if not self.is_started:
                    self._encoding = _value(fields.lines, b"content-encoding")
                copy.add(connection.waiting)
        return super().relay(connection)

    # -- the end -----------------------------------------------------------------------------------------------

    def _end(self, response: SentResponse) -> Wait | None:
        self._note()
        return super()._end(response)

    def _lose_client(self) -> None:
        if not self.is_over:
            self._note(is_left=True)
        super()._lose_client()

    def _note(self, *, is_left: bool = False) -> None:
        """Learn from the outcome. A client that left, and what the gateway refused by itself, teach nothing."""
        if self._held:
            self._held = 0
            self.shared.needs.turns.memory.release(self)
        if self._choice is None:
            return
        target, choice = self._choice
        record, copy = self.record, self._copy
        record.rotation, self._copy = choice, None
        failed = record.error in _FAILED
        if is_left or record.status == 101 or record.is_own or (record.error is not None and not failed):
            return
        seconds = perf_counter() - record.started
        if record.is_event_stream and record.head_seconds:
            seconds = record.head_seconds
        document = copy.document(self._encoding) if copy is not None and not failed else None
        self._group.learn(target, choice, status=None if failed else record.status, seconds=seconds, document=document)


def _value(lines: Sequence[bytes], name: bytes) -> bytes:
    """The value of a field of a response, in lower case; empty without one."""
    found = (line for line in lines if field_name(line) == name)
    return next(found, b":").partition(b":")[2].strip().lower()
