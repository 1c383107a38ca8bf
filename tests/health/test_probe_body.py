from __future__ import annotations

import codecs
import gzip
import time
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentaculo.health.probe_body import MAX_BODY, ProbeBody, read_body


def raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


@pytest.mark.parametrize(
    ("body", "content_type", "text"),
    [
        (b"plain", "", "plain"),
        ("línea".encode(), "text/plain", "línea"),
        ("línea".encode("latin-1"), "text/plain; charset=ISO-8859-1", "línea"),
        ("línea".encode("latin-1"), 'text/plain; charset="latin1"', "línea"),
        ("10 €".encode("cp1252"), "text/html;charset=windows-1252", "10 €"),
        ("готов".encode("koi8-r"), "text/plain; Charset=KOI8-R", "готов"),
        ("準備".encode("shift_jis"), "text/html; charset=Shift_JIS", "準備"),
        (codecs.BOM_UTF8 + b"ready", "", "ready"),
        (codecs.BOM_UTF8 + "é".encode(), "text/plain; charset=latin-1", "é"),
        (codecs.BOM_UTF16_LE + "ready".encode("utf-16-le"), "", "ready"),
        (codecs.BOM_UTF16_BE + "ready".encode("utf-16-be"), "text/plain; charset=utf-8", "ready"),
        (codecs.BOM_UTF32_LE + "ready".encode("utf-32-le"), "", "ready"),
        ("ready".encode("utf-16-le"), "", "ready"),
        ("ready".encode("utf-16-be"), "application/json; charset=utf-16be", "ready"),
        (b'<html><meta charset="iso-8859-1">\xe9', "text/html", '<html><meta charset="iso-8859-1">é'),
        (b"ready \xff", "", "ready \ufffd"),
        (b"ready", "text/plain; charset=unicode_escape", "ready"),
        (b"ready", "text/plain; charset=idna", "ready"),
        (b"ready", "text/plain; charset=base64", "ready"),
        (b"ready", "text/plain; charset=iso-8859-99", "ready"),
        (b"ready", "text/plain; charset=", "ready"),
        ("é".encode()[:1], "", "\ufffd"),
    ],
)
def test_the_charset(body: bytes, content_type: str, text: str) -> None:
    assert read_body(body, content_type) == ProbeBody(text)


@pytest.mark.parametrize(
    ("body", "coding"),
    [
        (gzip.compress(b"ready"), "gzip"),
        (gzip.compress(b"ready"), "X-GZIP"),
        (gzip.compress(b"ready"), "identity, gzip"),
        (gzip.compress(b"re") + gzip.compress(b"ady"), "gzip"),
        (gzip.compress(b"ready") + b"\0\0", "gzip"),
        (zlib.compress(b"ready"), "deflate"),
        (raw_deflate(b"ready"), "deflate"),
        (gzip.compress(zlib.compress(b"ready")), "deflate, gzip"),
        (b"ready", "identity"),
        (b"ready", ""),
    ],
)
def test_a_coding_that_can_be_read(body: bytes, coding: str) -> None:
    assert read_body(body, "", coding) == ProbeBody("ready")


@pytest.mark.parametrize(
    ("body", "coding", "why"),
    [
        (b"\x0b\x02\x80ready\x03", "br", "its body has the content coding br, which cannot be read"),
        (b"ready", "gzip", "its body cannot be decompressed (gzip)"),
        (b"x", "gzip, gzip, gzip, gzip", "its body has the content coding gzip, which cannot be read"),
        (b"x", "x" * 99, f"its body has the content coding {'x' * 20}, which cannot be read"),
    ],
)
def test_one_that_cannot(body: bytes, coding: str, why: str) -> None:
    assert read_body(body, "", coding) == ProbeBody(unreadable=why)


def test_what_there_is_of_a_compressed_body_that_is_cut() -> None:
    whole = " ".join(str(number) for number in range(20_000)).encode()
    body = read_body(gzip.compress(whole)[:20_000], "", "gzip", is_cut=True)
    assert body.text.startswith("0 1 2 3")
    assert body.is_cut
    assert read_body(gzip.compress(whole)[:20_000], "", "gzip").is_cut, "it ends too soon"


def test_a_character_that_the_cut_divides_is_left_out() -> None:
    assert read_body("ready é".encode()[:-1], is_cut=True) == ProbeBody("ready ", is_cut=True)


def test_a_body_grows_to_its_bound_only() -> None:
    body = read_body(gzip.compress(b"0" * 50_000_000), "", "gzip")
    assert (len(body.text), body.is_cut) == (MAX_BODY, True)
    assert read_body(gzip.compress(b"0" * MAX_BODY), "", "gzip") == ProbeBody("0" * MAX_BODY)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        ('{"load": NaN, "a": 1}', {"a": 1}),
        ('{"load": -Infinity, "a": 1}', {"a": 1}),
        ('{"name": "\\ud800", "a": 1}', {"a": 1}),
        ('{"\\udfff": 2, "a": 1}', {"a": 1}),
        ('{"big": ' + "9" * 5000 + ', "load": NaN, "a": 1}', {"a": 1}),
        ('{"big": 1e999, "a": 1}', {"a": 1}),
        (' \r\n\t{"a": 1}\n', {"a": 1}),
    ],
)
def test_json(text: str, value: dict[str, Any]) -> None:
    found = ProbeBody(text).json()
    assert {"a": found["a"]} == value


@pytest.mark.parametrize("text", ["", "ready", "{", '{"a": 1', "[" * 60_000, "{'a': 1}"])
def test_what_is_no_json(text: str) -> None:
    with pytest.raises(ValueError):
        ProbeBody(text).json()


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ('{"status": "down", "items": [1, 2, ', {"status": "down"}),
        ('{ "a" : {"b": 1} , "n": 12', {"a": {"b": 1}}),
        ('{"a": 1, ', {"a": 1}),
        ('{"a": 1, "b', {"a": 1}),
        ('{"a": 1, "b"', {"a": 1}),
        ('{"a": NaN, "b": "x", "c": tr', {"b": "x"}),
        ("{", {}),
        ('{"a": ' + "[" * 60_000, {}),
    ],
)
def test_of_an_object_that_is_cut_the_whole_members_count(text: str, members: dict[str, Any]) -> None:
    found = ProbeBody(text, is_cut=True).json()
    assert {name: value for name, value in found.items() if value == value} == members


def test_an_object_that_is_nested_too_deeply_has_the_members_before() -> None:
    text = '{"status": "down", "more": ' + "[" * 30_000 + "]" * 30_000 + "}"
    assert ProbeBody(text).json() == {"status": "down"}


def test_a_list_that_is_cut_is_no_json() -> None:
    with pytest.raises(ValueError):
        ProbeBody("[1, 2, ", is_cut=True).json()


@given(st.binary(max_size=200), st.sampled_from(["", "gzip", "deflate", "br"]), st.text(max_size=40), st.booleans())
def test_no_body_breaks_the_reader(body: bytes, coding: str, content_type: str, is_cut: bool) -> None:
    found = read_body(body, content_type, coding, is_cut=is_cut)
    assert len(found.text) <= MAX_BODY
    try:
        found.json()
    except ValueError:
        pass


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":' * 13_000,
        b'{"a": "' + b"\\ud800" * 10_000,
        b"{" + b'"a":1,' * 10_000,
        b"<meta " * 10_000,
        b"9" * MAX_BODY,
        b'"' * MAX_BODY,
        codecs.BOM_UTF16_LE + b"\xd8" * MAX_BODY,
    ],
    ids=["nested", "surrogates", "members", "meta", "digits", "quotes", "utf-16"],
)
def test_a_hostile_body_costs_no_time(body: bytes) -> None:
    start = time.process_time()
    found = read_body(body, is_cut=True)
    try:
        found.json()
    except ValueError:
        pass
    assert time.process_time() - start < 1, "64 KiB take milliseconds; a quadratic reader would take minutes"
