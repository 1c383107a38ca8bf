"""Evaluates the attempts of a probe: one result, with its reason in words. Pure.

A body is untrusted. It is read within `MAX_BODY` bytes, in time and memory in proportion to them, and only becomes one
of a few known words or a short line of printable text. What can be read counts, also where a server sends a form that
the probe did not ask for: compressed, in another charset, with a byte order mark, with NaN.
"""

from __future__ import annotations

import codecs
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

import msgspec

from tentaculo.config.probes import Condition, ProbeSettings
from tentaculo.health.probe_client import MAX_BODY, ProbeAttempt
from tentaculo.model.health import DegradedKind, Endpoint, Health, ProbeResult
from tentaculo.model.reason import because
from tentaculo.model.text import printable

_DAY = 86400.0
SNIPPET = 200
"""Characters of a body that are kept to be shown."""

_UP_WORDS = frozenset({"ok", "healthy", "pass", "up"})
_DEGRADED_WORDS = frozenset({"degraded", "warn", "warning"})
_DOWN_WORDS = frozenset({"error", "down", "fail", "unhealthy", "critical"})

# What a person can do about a status that needs an explanation.
_HINTS = dict.fromkeys((401, 403), because("check_token"))
_CUT = because("body_cut")
_PLAIN = ProbeSettings()
_WORST_FIRST = (Health.DOWN, Health.DEGRADED, Health.UP)

_MAX_CODINGS = 3
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_MARKS = tuple(mark for mark, _ in _BYTE_ORDER_MARKS)
# Python has codecs that take quadratic time or are no charsets: only these names are looked up.
_CHARSET = re.compile(
    r"(?i)utf-?8|utf-?16(?:-?[lb]e)?|utf-?32(?:-?[lb]e)?|(?:us-)?ascii|latin-?1|iso-?8859-?\d{1,2}|windows-?\d{3,4}|cp\d{3,4}"
    r"|koi8-[rut]|shift[-_]jis|euc[-_](?:jp|kr)|gbk|gb2312|gb18030|big5|iso-2022-(?:jp|kr)|macintosh|tis-620"
)
_PARAMETER = re.compile(r"(?i);\s*charset\s*=\s*[\"']?([\w-]{1,40})")
_META = re.compile(rb"(?i)<meta[^>]{0,200}charset\s*=\s*[\"']?([\w-]{1,40})")
_META_BYTES = 1024
_MAX_DIGITS = 4000


class ProbeBody(msgspec.Struct, frozen=True):
    """A body as text."""

    text: str = ""
    is_cut: bool = False
    """Whether there is more than was read."""
    unreadable: str = ""
    """In words, why it could not be read; empty where it was."""

    def json(self) -> Any:
        """The JSON value. Raises ValueError where the body is no JSON.

        Of an object that is cut, or nested too deeply, the members before that point.
        """
        try:
            return msgspec.json.decode(self.text)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            pass
        # Python's own reader also takes NaN, and escapes of a half of a surrogate pair.
        try:
            return _DECODER.decode(self.text)
        except RecursionError:
            is_partial = True
        except ValueError:
            is_partial = self.is_cut
        if not is_partial or not self.text.lstrip().startswith("{"):
            raise ValueError("is no JSON")
        return dict(_members(self.text))


def read_body(body: bytes, content_type: str = "", content_encoding: str = "", *, is_cut: bool = False) -> ProbeBody:
    """Read a body by the Content-Type and Content-Encoding of its response."""
    codings = [
        coding for item in content_encoding.split(",") if (coding := item.strip().lower()) not in ("", "identity")
    ]
    for coding in reversed(codings):
        wbits = {"gzip": 31, "x-gzip": 31, "deflate": 15}.get(coding)
        if wbits is None or len(codings) > _MAX_CODINGS:
            return ProbeBody(unreadable=because("unknown_coding", coding=coding[:20]))
        try:
            body, is_longer = _decompress(body, wbits)
        except zlib.error:
            return ProbeBody(unreadable=because("not_decompressed", coding=coding))
        is_cut = is_cut or is_longer
    return ProbeBody(_as_text(body, content_type, is_cut=is_cut), is_cut)


def _decompress(data: bytes, wbits: int) -> tuple[bytes, bool]:
    """At most `MAX_BODY` bytes, and whether there is more. A stream that ends too soon has more as well."""
    if wbits == 15 and not _is_zlib(data):
        wbits = -15  # many servers send bare deflate
    found = bytearray()
    while True:
        stream = zlib.decompressobj(wbits)
        found += stream.decompress(data, MAX_BODY + 1 - len(found))
        if len(found) > MAX_BODY:
            return bytes(found[:MAX_BODY]), True
        # gzip allows several members one after another; what follows the last of them is padding.
        data = stream.unused_data
        if wbits != 31 or not data.startswith(b"\x1f\x8b"):
            return bytes(found), not stream.eof


def _is_zlib(data: bytes) -> bool:
    return len(data) >= 2 and data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0


def _as_text(body: bytes, content_type: str, *, is_cut: bool) -> str:
    if body.startswith(_MARKS):
        mark, charset = next(one for one in _BYTE_ORDER_MARKS if body.startswith(one[0]))
        return body[len(mark) :].decode(charset, "replace")
    if (named := _PARAMETER.search(content_type)) and (charset := _known(named[1])):
        return body.decode(charset, "replace")
    if b"\x00" in body[:4]:
        return body.decode(json.detect_encoding(body), "replace")
    try:
        if not is_cut:
            return body.decode()
        # A character that the cut has divided is no reason for another charset.
        return codecs.getincrementaldecoder("utf-8")().decode(body)
    except UnicodeDecodeError:
        meta = _META.search(body[:_META_BYTES])
        return body.decode((meta and _known(meta[1].decode())) or "utf-8", "replace")


def _known(charset: str) -> str:
    """A charset by the name of Python's codec; empty for any other name."""
    if not _CHARSET.fullmatch(charset):
        return ""
    try:
        return codecs.lookup(re.sub(r"(?i)^windows-?", "cp", charset)).name
    except LookupError:
        return ""


def _as_integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_DIGITS else float(digits)


_DECODER = json.JSONDecoder(parse_int=_as_integer)
_SPACE = re.compile(r"[ \t\n\r]*")


def _members(text: str) -> Iterator[tuple[str, Any]]:
    """The members of the object at the start of `text` that are complete."""

    def skip(place: int) -> int:
        match = _SPACE.match(text, place)
        return match.end() if match else place

    place = skip(0)
    while text[place : place + 1] in ("{", ","):
        try:
            name, place = _DECODER.raw_decode(text, skip(place + 1))
            place = skip(place)
            if not isinstance(name, str) or text[place : place + 1] != ":":
                return
            value, place = _DECODER.raw_decode(text, skip(place + 1))
        except (ValueError, RecursionError):
            return
        place = skip(place)
        if not text[place : place + 1]:
            return  # the cut may go through a number
        yield name, value


def stated_health(body: ProbeBody) -> tuple[Health, str]:
    """The health that a JSON body states in its member `status`, and that word.

    A list, a body that is no JSON, and an unknown word mean UP with an empty word: the status of the response decides.
    """
    try:
        value = body.json()
    except ValueError:
        return Health.UP, ""
    status = value.get("status") if isinstance(value, dict) else None
    word = status.strip().lower() if isinstance(status, str) else ""
    if word in _DOWN_WORDS:
        return Health.DOWN, word
    if word in _DEGRADED_WORDS:
        return Health.DEGRADED, word
    return Health.UP, word if word in _UP_WORDS else ""


def snippet(text: str, secrets: Mapping[str, str] = MappingProxyType({})) -> str | None:
    """The first characters of a body as one line of printable text, None where there are none.

    `secrets` are replaced by their names: a service that echoes its request must not put its token on the status page.
    """
    text = text[: 16 * SNIPPET]
    for secret, name in secrets.items():
        text = text.replace(secret, f"[{name}]")
    return printable(text)[:SNIPPET] or None


def evaluate(
    upstream: Endpoint,
    attempts: Sequence[ProbeAttempt],
    checked_at: datetime,
    secrets: Mapping[str, str] = MappingProxyType({}),
    probe: ProbeSettings = _PLAIN,
    took: float = 0.0,
) -> ProbeResult:
    """The result of a probe from its attempts, in order. Only the last one can be a success.

    `probe` has the further expectations of that response, and `took` the seconds of all attempts together.
    """
    is_answered = attempts[-1].is_answered
    shown = attempts[-1] if is_answered or len(attempts) == 1 else max(attempts, key=_significance)
    body = read_body(shown.body, shown.content_type, shown.content_encoding, is_cut=shown.is_cut)
    if is_answered:
        health, reason, kind = _answered(shown, body, probe, checked_at)
    else:
        kind = None
        health = Health.UNKNOWN if attempts[-1].is_gateway_fault else Health.DOWN
        reason = _failed(attempts)
    return ProbeResult(
        upstream,
        health,
        reason,
        checked_at,
        endpoint=shown.path or None,
        code=shown.code,
        latency_ms=shown.latency_ms,
        snippet=snippet(body.text, secrets),
        kind=kind,
        took=took,
        clock=next((one.clock for one in reversed(attempts) if one.clock is not None), None),
        certificate=next((one.certificate for one in reversed(attempts) if one.certificate is not None), None),
        gauges=_gauges(body, probe) if is_answered else (),
    )


def _gauges(body: ProbeBody, probe: ProbeSettings) -> tuple[tuple[str, float], ...]:
    """The numbers for which the conditions of `probe` have a bound, as far as the body has them."""
    if body.unreadable or not (gauges := probe.gauges):
        return ()
    try:
        value = body.json()
    except ValueError:
        return ()
    return tuple((one.gauge, number) for one in gauges if (number := one.number_in(value)) is not None)


def _significance(attempt: ProbeAttempt) -> int:
    """A response that fails is more useful to show than a 404, and a 404 more than no response."""
    return 0 if attempt.code is None else 1 if attempt.code == 404 else 2


def _answered(
    attempt: ProbeAttempt, body: ProbeBody, probe: ProbeSettings, now: datetime
) -> tuple[Health, str, DegradedKind | None]:
    stated, word = stated_health(body)
    found: list[tuple[Health, str]] = [] if stated is Health.UP else [(stated, because("calls_itself", word=word))]
    found += complaints(attempt, body, probe, now)
    is_slow = probe.slow is not None and attempt.latency_ms is not None and attempt.latency_ms > probe.slow * 1000
    kind = DegradedKind.SLOW if is_slow and not found else None
    if body.unreadable and not found:
        found.append((Health.UP, body.unreadable))
    if is_slow:
        found.append((Health.DEGRADED, because("slower_than", seconds=probe.slow)))
    reason = attempt.words
    if attempt.latency_ms is not None:
        reason = because("took", what=reason, milliseconds=attempt.latency_ms)
    if found:
        reason = because("faulty", what=reason, faults=[words for _, words in found])
    health = min((health for health, _ in found), key=_WORST_FIRST.index, default=Health.UP)
    return health, reason, kind


def _failed(attempts: Sequence[ProbeAttempt]) -> str:
    """`answered 404 at /health and /healthz; answered 503 at /status`; without a path where the endpoint itself failed."""
    last = attempts[-1]
    if last.is_final and all(attempt.words == last.words for attempt in attempts):
        return last.words
    paths: dict[str, list[str]] = {}
    for attempt in attempts:
        paths.setdefault(attempt.words, []).append(attempt.path)
    parts: list[str] = [because("failed_at", what=words, paths=_listed(where)) for words, where in paths.items()]
    parts += dict.fromkeys(_HINTS[attempt.code] for attempt in attempts if attempt.code in _HINTS)
    return parts[0] if len(parts) == 1 else because("several", parts=parts)


def _listed(items: Iterable[str]) -> str:
    *first, last = items
    return f"{', '.join(first)} and {last}" if first else last


def complaints(
    attempt: ProbeAttempt, body: ProbeBody, probe: ProbeSettings, now: datetime
) -> Iterator[tuple[Health, str]]:
    """Each expectation of `probe` that the response does not fulfil: the resulting health, and the reason in words."""
    if body.unreadable:
        if probe.contains is not None or probe.matches is not None or probe.require:
            yield Health.DOWN, body.unreadable
        elif probe.prefer:
            yield Health.DEGRADED, body.unreadable
    else:
        yield from _of_text(body.text, probe)
        yield from _of_json(body, probe.require, Health.DOWN)
        yield from _of_json(body, probe.prefer, Health.DEGRADED)
    if (certificate := attempt.certificate) is not None:
        whose = "issuer" if certificate.is_issuer_first else "certificate"
        yield from _of_certificate(whose, certificate.chain_ends, probe.certificate_days, now)


def _of_text(text: str, probe: ProbeSettings) -> Iterator[tuple[Health, str]]:
    if probe.contains is not None and probe.contains not in text:
        yield Health.DOWN, because("without_text", text=probe.contains)
    if probe.matches is not None and not probe.matches.is_in(text):
        yield Health.DOWN, because("without_match", pattern=probe.matches.text)


def _of_json(body: ProbeBody, conditions: Sequence[Condition], health: Health) -> Iterator[tuple[Health, str]]:
    if not conditions:
        return
    try:
        value = body.json()
    except ValueError:
        yield health, _CUT if body.is_cut else because("without_json")
        return
    for condition in conditions:
        if complaint := condition.complaint(value):
            yield health, _CUT if body.is_cut and not condition.is_found_in(value) else complaint


def _of_certificate(whose: str, ends: datetime, least: int, now: datetime) -> Iterator[tuple[Health, str]]:
    days = (ends - now).total_seconds() / _DAY
    if days <= 0:
        yield Health.DOWN, because(f"{whose}_expired", date=f"{ends:%Y-%m-%d}")
    elif days < least:
        left = "less than a day" if days < 1 else "1 day" if days < 2 else f"{int(days)} days"
        yield Health.DEGRADED, because(f"{whose}_expires", left=left)
