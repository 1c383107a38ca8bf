"""Where a search begins: inputs that already reach far into each target."""

from __future__ import annotations

import json

from tests.support.gateway_process import ROOT
from tests.wire.ambiguities import CHUNKS, CODINGS, LENGTHS
from tests.wire.tricks import tricks

_FIELDS = [line for lines in (*LENGTHS.values(), *CODINGS.values()) for line in lines]
_EVENT = {
    "type": "system.alert",
    "alert_id": "a",
    "severity": "high",
    "message": "m",
    "timestamp": 1,
    "value": 2**70,
    "components": {"a": [1.5, None, True, "\u00e9\U0001f600"]},
    "confidence": 1e300,
}

SEEDS: dict[str, list[bytes]] = {
    "answer": [b"\0" + b"".join(trick.pieces()) for trick in list(tricks())[::40]],
    "chunks": [b"\3" + form(b"payload of a chunk") + b"rest" for form in CHUNKS.values()],
    "answer_to_client": [
        b"\0HTTP/1.1 302 Found\r\nLocation: %b\r\nSet-Cookie: a=b; Path=%b; Secure\r\nContent-Length: 0\r\n\r\n" % pair
        for pair in (
            (b"http://inner:81/api/v1/x?y#z", b"/api/v1"),
            (b"/api/v1//evil", b"/api"),
            (b"//evil/x", b"/"),
            (b"HTTPS://outer/api/v1", b""),
        )
    ]
    + [b"\x1fHTTP/1.0 200\r\nConnection: x-a, close\r\nX-A: b\r\nAccess-Control-Allow-Origin: *\r\n\r\n"],
    "request_to_upstream": [
        b"\n".join(_FIELDS[start : start + 3]) + b"\nConnection: close, x-a, host\nX-A: b\nX_Real_IP: c"
        for start in range(0, len(_FIELDS), 7)
    ]
    + [b"Host: h\nVia: 1.1 a\nX-Forwarded-For: b\nMax-Forwards: 3\nExpect: 100-continue\nTE: trailers\nUpgrade: x"],
    "provenance": [
        b'X-Forwarded-For: 1.2.3.4, ::1\nForwarded: for="[::1]";host="a"\nX-Request-ID: abc\nX-Forwarded-Prefix: /a',
        b"X-Forwarded-Host: a\nX-Forwarded-Host: b\nX-Real-IP: 1\nX-Forwarded-Port: 1\nX-Forwarded-Proto: https",
    ],
    "target": [
        b"\0" + raw
        for raw in (
            b"/a/%2e%2E/b;c?d=%00#e",
            b"/a..;/%2f..%5c.",
            b"http://host:80/a?b",
            b"https://[::1]?q",
            b"*",
            b"/%c0%ae%c0%af%u002e",
            b"/\xc3\xa9//%41+%7E",
        )
    ]
    + [b"\3*", b"\3http://host"],
    "request_line": [
        b"BREW /a HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /\xc3\xa9%20?\xe2\x82\xac HTTP/1.0\r\n\r\n",
        b"M-SEARCH /a HTTP/1.1\r\n",
    ],
    "events": [
        json.dumps(_EVENT).encode(),
        json.dumps(_EVENT, ensure_ascii=False).encode(),
        b"[" * 70 + b"]" * 70,
        b'{"a":"\\ud800"}',
        b'{"a":1e400,"b":-0.0,"timestamp":true}',
    ],
    "config": [
        (ROOT / "docker" / "vx11.toml").read_bytes(),
        b'[server]\nport = 1\nlisten = ["[::1]:0", "a:99999"]\n[log]\nlevel = "debug"\n',
        b'[services.a]\nurl = "http://h:1"\nroutes = [{prefix = "/a", strip = true, set_headers = {A = "b"}}]\n',
        b'[cors]\norigins = ["http://a"]\n[auth]\ntokens = ["sha256:00"]\n[limits]\nbody = -1\nidle = inf\n',
    ],
    "origin": [b"http://h:80\nh", b"https://h\nh:443", b"null\nh", b"http://[::1]:8000\n[::1]:8000", b"x://h\nh:0"],
    "accept": [
        b"text/html, application/json;q=0.9, */*;q=0.1",
        b"text/html;q=nan, application/problem+json;q=1e-1",
        b"TEXT/HTML;Q=.5;q=2,application/*",
    ],
}
