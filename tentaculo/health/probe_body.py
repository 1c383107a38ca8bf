"""Reads the body of a response: content coding, charset and JSON. Pure.

What can be read counts, also where a server sends what it was not asked for. Everything here takes time and memory in
proportion to `MAX_BODY`, whatever the body is.
"""

from __future__ import annotations

import codecs
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

MAX_BODY = 64 * 1024
"""Bytes of a body that are read, before and after it is decompressed."""

_MAX_CODINGS = 3
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Python has codecs that take quadratic time or are no charsets: only these names are passed on.
_CHARSET = re.compile(
    r"(?i)utf-?8|utf-?16(?:-?[lb]e)?|utf-?32(?:-?[lb]e)?|(?:us-)?ascii|latin-?1|iso-?8859-?\d{1,2}|windows-?\d{3,4}|cp\d{3,4}"
    r"|koi8-[rut]|shift[-_]jis|euc[-_](?:jp|kr)|gbk|gb2312|gb18030|big5|iso-2022-(?:jp|kr)|macintosh|tis-620"
)
_PARAMETER = re.compile(r"(?i);\s*charset\s*=\s*[\"']?([\w-]{1,40})")
_META = re.compile(rb"(?i)<meta[^>]{0,200}charset\s*=\s*[\"']?([\w-]{1,40})")
_META_BYTES = 1024
_MAX_DIGITS = 4000


@dataclass(frozen=True, slots=True)
class ProbeBody:
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
            return ProbeBody(unreadable=f"its body has the content coding {coding[:20]}, which cannot be read")
        try:
            body, is_longer = _decompress(body, wbits)
        except zlib.error:
            return ProbeBody(unreadable=f"its body cannot be decompressed ({coding})")
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
    for mark, charset in _BYTE_ORDER_MARKS:
        if body.startswith(mark):
            return body[len(mark) :].decode(charset, "replace")
    if (named := _PARAMETER.search(content_type)) and (charset := _known(named[1])):
        return body.decode(charset, "replace")
    if b"\x00" in body[:4]:
        return body.decode(json.detect_encoding(body), "replace")
    # A character that the cut has divided is no reason for another charset.
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        return decoder.decode(body, final=not is_cut)
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
