"""`POST /events/ingest`: one event or several, in the gateway's own form or as CloudEvents.

An event is checked as a whole before any part of it takes effect. A large batch is read in slices, so that the event
loop serves other clients meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from functools import lru_cache, partial
from typing import Any, NamedTuple

import msgspec
import structlog
from aiohttp import hdrs

from tentaculo.config.limits import LimitSettings
from tentaculo.events import cloud_events
from tentaculo.events.faulty_json import masked, parse_members, with_value_faults
from tentaculo.events.pipeline import EventPipeline, Receipt
from tentaculo.events.schemas import (
    CANONICAL,
    NAME_LENGTH,
    Envelope,
    FieldError,
    JsonError,
    JsonKind,
    Rejected,
    digest_of,
    envelope,
    is_key,
    is_name,
    is_source,
    key_fault,
    kind_fault,
    listed,
    may_be_too_deep,
    name_fault,
    not_an_object,
    severity_of,
    source_fault,
    stated_ms,
    validate,
)
from tentaculo.model.event import Event, StoredEvent, StoreOutcome
from tentaculo.model.failure import Failure, Problem
from tentaculo.model.text import join_names
from tentaculo.server.buffered_handler import BodyHandler, HeaderFields, NativeResponse, Respond
from tentaculo.server.native_routes import Slices
from tentaculo.server.request_body import check_coding, is_array
from tentaculo.tasks import TaskGroup

log = structlog.get_logger(__name__)

ACCEPTED = (
    "application/json, application/x-ndjson, application/jsonl, application/cloudevents+json,"
    " application/cloudevents-batch+json"
)
"""The media types of bodies, as the headers Accept and Accept-Post list them."""
MOST_HELD = 32 * 1024 * 1024
"""Bytes of bodies that wait for the database. `events.queue` bounds their number; read, they take several times as much."""
_LATER = {"Retry-After": "1"}
_LOGGED_FIELDS = 16
_REFUSED = FieldError("body", "has values that the database does not accept")


class Framing(Enum):
    """How the events of a body are separated."""

    ONE = "one event"
    ONE_OR_ARRAY = "one event, or an array of them"
    ARRAY = "an array of events"
    LINES = "one event in each line"


Read = Callable[[bytes, int], Envelope | Rejected]
"""Reads the text of one event; the number is the present time in milliseconds. Raises `JsonError`."""


class Form(NamedTuple):
    """The form of a body."""

    read: Read
    framing: Framing


class _UsualEvent(msgspec.Struct, forbid_unknown_fields=True):
    """The members that most events have; one with others, or a null, is read as any other JSON."""

    source: str
    type: str
    payload: dict[str, Any]
    broadcast: bool = False
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)
    key: str | msgspec.UnsetType = msgspec.UNSET


_USUAL = msgspec.json.Decoder(_UsualEvent)


def read_event(text: bytes, now_ms: int) -> Envelope | Rejected:
    """The event of the gateway's own form, or all its faults. Raises `JsonError`.

    Members that are not known are ignored, as older producers send some. `metadata` and `key` of null are none.
    """
    return _read_usual(text, now_ms) or _read_any(text, now_ms)


def _read_usual(text: bytes, now_ms: int) -> Envelope | None:
    """The event, in half of the time that `_read_any` takes; None where that one has to decide."""
    try:
        sent = _USUAL.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    key = None if sent.key is msgspec.UNSET else sent.key
    if not _are_names(sent.source, sent.type) or (key is not None and not is_key(key)) or may_be_too_deep(text):
        return None
    payload, schema = sent.payload, CANONICAL.get(sent.type)
    if schema is not None:
        payload, faults = validate(schema, payload, now_ms=now_ms, whole="payload")
        if faults:
            return None
    return Envelope(
        source=sent.source,
        type=sent.type,
        payload=payload,
        canonical=schema is not None,
        broadcast=sent.broadcast,
        metadata=sent.metadata,
        key=key,
        digest=None if key is None else digest_of(sent.type, sent.payload, sent.metadata, broadcast=sent.broadcast),
        severity=severity_of(payload, sent.metadata),
        stated_ms=stated_ms(sent.payload.get("timestamp")),
    )


def _are_names(source: str, type_: str) -> bool:
    return len(source) <= NAME_LENGTH and len(type_) <= NAME_LENGTH and _are_source_and_type(source, type_)


@lru_cache(maxsize=512)
def _are_source_and_type(source: str, type_: str) -> bool:
    """Most events repeat few of them. Longer texts are not kept."""
    return is_source(source) and is_name(type_)


def _read_any(text: bytes, now_ms: int) -> Envelope | Rejected:
    body, faults = parse_members(text)
    if not isinstance(body, dict):
        return with_value_faults(not_an_object(body), faults)
    return with_value_faults(envelope(body, stated=None, now_ms=now_ms, faults=_faults(body)), faults)


def _faults(body: Mapping[str, Any]) -> list[FieldError | None]:
    return [
        source_fault("source", body),
        name_fault("type", body),
        kind_fault("payload", JsonKind.OBJECT, body),
        kind_fault("broadcast", JsonKind.BOOLEAN, body) if "broadcast" in body else None,
        kind_fault("metadata", JsonKind.OBJECT, body) if body.get("metadata") is not None else None,
        key_fault("key", body) if body.get("key") is not None else None,
    ]


_FORMS = {
    "application/x-ndjson": Form(read_event, Framing.LINES),
    "application/jsonl": Form(read_event, Framing.LINES),
    "application/cloudevents+json": Form(cloud_events.read_structured, Framing.ONE),
    "application/cloudevents-batch+json": Form(cloud_events.read_structured, Framing.ARRAY),
}


def form_of(fields: HeaderFields) -> Form:
    """The form that the header fields of a request say. Raises `Problem` (415) for any other, and for a compressed body.

    A body without a media type is refused too, unless it is a CloudEvent in binary mode: a web page can send it to
    another origin without a CORS preflight.
    """
    lines = [(name.decode("latin-1").lower(), value.decode("utf-8", "surrogateescape")) for name, value in fields]
    first = dict(reversed(lines))
    check_coding(first.get("content-encoding"))
    written = first.get("content-type")
    has_type, media_type = written is not None, (written or "").partition(";")[0].strip().lower()
    if media_type in _FORMS:
        return _FORMS[media_type]
    if cloud_events.is_binary_mode(first) and not media_type.startswith("application/cloudevents"):
        return Form(lambda body, now_ms: cloud_events.read_binary(lines, body, now_ms), Framing.ONE)
    is_other = not media_type.startswith("application/") or media_type.startswith("application/cloudevents")
    if has_type and cloud_events.is_json(media_type) and not is_other:
        return Form(read_event, Framing.ONE_OR_ARRAY)
    detail = "Events are application/json; with curl add -H 'Content-Type: application/json'."
    if not has_type:
        detail = "The request has no Content-Type; send application/json."
    headers = {hdrs.ACCEPT: ACCEPTED, "Accept-Post": ACCEPTED}
    raise Problem(Failure.UNSUPPORTED_MEDIA_TYPE, detail, headers=headers)


class Ingest:
    """The handler of `POST /events/ingest`: a `BufferedHandler`. `tasks` own the work on batches."""

    def __init__(self, pipeline: EventPipeline, limits: LimitSettings, tasks: TaskGroup) -> None:
        self._pipeline = pipeline
        self._limits = limits
        self._tasks = tasks
        self._slices = Slices()
        self._held = 0
        """Bytes of the bodies whose events are not stored yet."""
        self._array = _array_decoder(limits.events_batch)

    def body_handler(self, fields: HeaderFields) -> BodyHandler:
        """Respond once what the body holds is stored. Raises `Problem` where the header fields refuse it."""
        form, limits = form_of(fields), self._limits
        is_batch = form.framing in (Framing.ARRAY, Framing.LINES)
        one, batch = limits.events_body, max(limits.events_batch_body, limits.events_body)
        either = batch if form.framing is Framing.ONE_OR_ARRAY else None
        return BodyHandler(batch if is_batch else one, either, partial(self._begin, form))

    def _begin(self, form: Form, body: bytes, respond: Respond) -> None:
        if self._held and self._held + len(body) > MOST_HELD:
            raise Problem(Failure.OVERLOADED, "Too many bytes of events wait for the database.", headers=_LATER)
        if form.framing is Framing.ONE or (
            form.framing is Framing.ONE_OR_ARRAY and (body[:1] == b"{" or not is_array(body))
        ):
            self._one(form.read, body, respond)
            return
        self._held += len(body)
        self._tasks.start(self._batch(form, body, respond), "batch")

    def _one(self, read: Read, body: bytes, respond: Respond) -> None:
        try:
            event = self._verdict(read, body, self._pipeline.receive())
        except JsonError as reason:
            raise Problem(Failure.BAD_REQUEST, f"The body {reason}.") from None
        if isinstance(event, Rejected):
            _log_rejected([event])
            raise _rejection(listed(event.faults))
        size = len(body)
        self._held += size

        def finish(results: Sequence[StoredEvent] | BaseException) -> None:
            self._held -= size
            try:
                if isinstance(results, BaseException):
                    raise results
                respond(_one_response(event, results[0]))
            except Exception as error:  # noqa: BLE001 - logged there
                respond(error)

        self._pipeline.submit([event], finish)

    async def _batch(self, form: Form, body: bytes, respond: Respond) -> None:
        try:
            texts = self._lines(body) if form.framing is Framing.LINES else await self._items(body)
            response = await self._store_batch(form.read, texts)
        except Exception as error:  # noqa: BLE001 - logged there
            respond(error)
        else:
            respond(response)
        finally:
            self._held -= len(body)

    async def _store_batch(self, read: Read, texts: Sequence[bytes | memoryview]) -> NativeResponse:
        verdicts = await self._slices.collect(self._verdicts(read, texts))
        rejected = [verdict for verdict in verdicts if isinstance(verdict, Rejected)]
        if rejected:
            _log_rejected(rejected)
        accepted = [verdict for verdict in verdicts if isinstance(verdict, Event)]
        stored = await self._pipeline.accept(accepted) if accepted else []
        results = [_result(id_, outcome) for id_, outcome in stored]
        if rejected:
            results = await self._slices.collect(_with_rejected(verdicts, iter(results)))
        statuses = {result.status for result in results}
        if statuses == {"rejected"}:
            errors = [{"index": index, **error} for index, one in enumerate(results) for error in one.errors or ()]
            raise _rejection(errors)
        is_whole = statuses <= {"received", "duplicate"}
        response = {"status": "received" if is_whole else "partial", "results": results}
        return _response(response, 207 if not is_whole else 201 if "received" in statuses else 200)

    def _verdicts(self, read: Read, texts: Sequence[bytes | memoryview]) -> Iterator[Event | Rejected]:
        limit, receipt = self._limits.events_body, self._pipeline.receive()
        for text in texts:
            if len(text) > limit:
                yield Rejected((FieldError("body", f"is {len(text)} bytes; {limit} are allowed"),))
                continue
            try:
                yield self._verdict(read, bytes(text), receipt)
            except JsonError as reason:
                yield Rejected((FieldError("body", str(reason)),))

    def _verdict(self, read: Read, text: bytes, receipt: Receipt) -> Event | Rejected:
        verdict = read(text, receipt.ms)
        return verdict if isinstance(verdict, Rejected) else self._pipeline.event(verdict, receipt)

    async def _items(self, body: bytes) -> list[bytes | memoryview]:
        if not is_array(body):
            raise _rejection(listed([FieldError("body", "must be a list")]))
        try:
            try:
                items: list[bytes | memoryview] = [memoryview(raw) for raw in self._raw_items(body)]
            except msgspec.DecodeError:
                # It takes some milliseconds for a large body.
                items = await self._slices.in_thread(partial(self._items_with_faults, body))
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            reason = "is nested too deep" if isinstance(error, RecursionError) else f"is not acceptable JSON: {error}"
            raise Problem(Failure.BAD_REQUEST, f"The body {reason}.") from None
        return self._counted(items)

    def _items_with_faults(self, body: bytes) -> list[bytes | memoryview]:
        """The items where one has a value such as NaN or a lone surrogate: the others are not refused for it.

        They are looked for in a text of the same size without such values.
        """
        plain = masked(body)
        items, whole, end = list[bytes | memoryview](), memoryview(body), 0
        for raw in self._raw_items(plain):
            start = plain.index(raw, end)
            end = start + len(memoryview(raw))
            items.append(whole[start:end])
        return items

    def _raw_items(self, body: bytes) -> tuple[Any, ...]:
        places: tuple[Any, ...] = msgspec.structs.astuple(self._array.decode(body))
        return places[: len(places) - places.count(None)]

    def _lines(self, body: bytes) -> list[bytes | memoryview]:
        # Empty lines count too, all but those at the end: a body of nothing else costs no more than one of events.
        lines = body.rstrip().split(b"\n", self._limits.events_batch)
        return [line for line in self._counted(lines) if line.strip()]

    def _counted(self, items: list[Any]) -> list[Any]:
        most = self._limits.events_batch
        if len(items) > most:
            raise Problem(Failure.BODY_TOO_LARGE, f"A request may have at most {most} events.")
        return items


def _response(value: object, status: int) -> NativeResponse:
    return NativeResponse(status, msgspec.json.encode(value))


def _one_response(event: Event, stored: StoredEvent) -> NativeResponse:
    """The response to one event. Raises `Problem` where it is not stored."""
    id_, outcome = stored
    if outcome is StoreOutcome.REFUSED:
        raise _rejection(listed([_REFUSED]))
    if outcome is StoreOutcome.CONFLICT:
        detail = "Another event of this source has this key. Repeat an event as it was, or give it a new key."
        raise Problem(Failure.EVENT_CONFLICT, detail, extra={"id": id_, "event_id": id_})
    response = {"status": "received", "source": event.source, "type": event.type, "id": id_, "event_id": id_}
    if outcome is StoreOutcome.DUPLICATE:
        return _response({**response, "duplicate": True}, 200)
    return _response(response, 201)


class _Result(msgspec.Struct):
    """What became of one event of a batch."""

    status: str
    id: int | msgspec.UnsetType = msgspec.UNSET
    event_id: int | msgspec.UnsetType = msgspec.UNSET
    errors: Sequence[dict[str, str]] | msgspec.UnsetType = msgspec.UNSET


def _result(id_: int, outcome: StoreOutcome) -> _Result:
    if outcome is StoreOutcome.STORED:
        return _Result("received", id_, id_)
    if outcome is StoreOutcome.REFUSED:
        return _rejected_result([_REFUSED])
    return _Result(outcome.value, id_, id_)


def _rejected_result(faults: Sequence[FieldError]) -> _Result:
    return _Result("rejected", errors=listed(faults))


def _with_rejected(verdicts: Sequence[Event | Rejected], stored: Iterator[_Result]) -> Iterator[_Result]:
    """The result of each event; `stored` are those of the others. A thousand faulty ones take some milliseconds."""
    return (_rejected_result(one.faults) if isinstance(one, Rejected) else next(stored) for one in verdicts)


def _log_rejected(rejected: Sequence[Rejected]) -> None:
    fields = dict.fromkeys(fault.field for one in rejected for fault in one.faults)
    log.info("event rejected", by="ingest", events=len(rejected), fields=list(fields)[:_LOGGED_FIELDS])


def _rejection(errors: Sequence[dict[str, Any]]) -> Problem:
    fields = join_names(list(dict.fromkeys(error["field"] for error in errors)), longest=64)
    # The contract's "rejected" takes the place of the member `status` of RFC 9457, which is only advisory there;
    # `status_code` still carries 422.
    extra = {"status": "rejected", "reason": Failure.INVALID_EVENT.error, "errors": errors}
    return Problem(Failure.INVALID_EVENT, f"Faulty: {fields}.", extra=extra)


@lru_cache(maxsize=1)
def _array_decoder(limit: int) -> msgspec.json.Decoder[Any]:
    """Reads the items of an array, `limit` and one more; what follows is only skipped.

    A list of a million numbers would be a million objects before its length is known (100 ms). It is kept since its type
    has an object for each item, and a reload mostly needs the same one.
    """
    places = [(f"item_{number}", msgspec.Raw, None) for number in range(limit + 1)]
    return msgspec.json.Decoder(msgspec.defstruct("Items", places, array_like=True))
