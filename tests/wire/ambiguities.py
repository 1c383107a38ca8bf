"""Requests whose end two servers may see in different places, and what a client sends behind them.

A case is one connection's bytes: a first request with doubtful framing, a request smuggled into its body, and a marked
one behind it. What of that the client clearly made is for `readers.read_strictly` to say.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import product

METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"PATCH")
ODD_METHODS = (b"PURGE", b"BREW", b"M-SEARCH", b"get")
LINE_ENDS = (b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r")

# N stands for the length of the body as sent.
LENGTHS: dict[str, tuple[bytes, ...]] = {
    "none": (),
    "valid": (b"Content-Length: N",),
    "short": (b"Content-Length: 4",),
    "zero": (b"Content-Length: 0",),
    "long": (b"Content-Length: 1N",),
    "twice": (b"Content-Length: N", b"Content-Length: N"),
    "differing, zero first": (b"Content-Length: 0", b"Content-Length: N"),
    "differing, zero last": (b"Content-Length: N", b"Content-Length: 0"),
    "differing, case": (b"content-length: N", b"CONTENT-LENGTH: 0"),
    "list": (b"Content-Length: N, N",),
    "differing list": (b"Content-Length: 0, N",),
    "plus": (b"Content-Length: +N",),
    "minus": (b"Content-Length: -N",),
    "hex": (b"Content-Length: 0xN",),
    "blanks": (b"Content-Length:\t N \t",),
    "no blank": (b"Content-Length:N",),
    "inner blank": (b"Content-Length: 0 N",),
    "leading zeros": (b"Content-Length: 000N",),
    "huge": (b"Content-Length: 18446744073709551616",),
    "beyond 64 bits to N": (b"Content-Length: 1844674407370955161N",),
    "empty": (b"Content-Length:",),
    "blank": (b"Content-Length: ",),
    "underscore": (b"Content_Length: N",),
    "folded": (b"Content-Length:\r\n N",),
    "folded after another": (b"X-A: b\r\n Content-Length: N",),
    "space before colon": (b"Content-Length : N",),
    "tab before colon": (b"Content-Length\t: N",),
    "leading space": (b" Content-Length: N",),
    "vertical tab": (b"Content-Length: \x0bN",),
    "NUL": (b"Content-Length: N\0",),
    "quoted": (b'Content-Length: "N"',),
    "fraction": (b"Content-Length: N.0",),
    "parameter": (b"Content-Length: N;a=b",),
    "other digits": ("Content-Length: \u0661\u0662".encode(),),
    "bare CR": (b"X-A: b\rContent-Length: N",),
    "bare LF": (b"X-A: b\nContent-Length: N",),
}
CODINGS: dict[str, tuple[bytes, ...]] = {
    "none": (),
    "chunked": (b"Transfer-Encoding: chunked",),
    "capital": (b"TRANSFER-ENCODING: Chunked",),
    "no blank": (b"Transfer-Encoding:chunked",),
    "tab behind": (b"Transfer-Encoding: chunked\t",),
    "space behind": (b"Transfer-Encoding: chunked ",),
    "vertical tab behind": (b"Transfer-Encoding: chunked\x0b",),
    "vertical tab before": (b"Transfer-Encoding: \x0bchunked",),
    "form feed": (b"Transfer-Encoding:\x0cchunked",),
    "NUL": (b"Transfer-Encoding: chunked\0",),
    "xchunked": (b"Transfer-Encoding: xchunked",),
    "chunkedx": (b"Transfer-Encoding: chunkedx",),
    "chunked, identity": (b"Transfer-Encoding: chunked, identity",),
    "identity, chunked": (b"Transfer-Encoding: identity, chunked",),
    "identity": (b"Transfer-Encoding: identity",),
    "gzip, chunked": (b"Transfer-Encoding: gzip, chunked",),
    "gzip": (b"Transfer-Encoding: gzip",),
    "twice": (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
    "two lines": (b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"),
    "two lines, last chunked": (b"Transfer-Encoding: x", b"Transfer-Encoding: chunked"),
    "leading comma": (b"Transfer-Encoding: , chunked",),
    "trailing comma": (b"Transfer-Encoding: chunked,",),
    "chunked twice": (b"Transfer-Encoding: chunked, chunked",),
    "quoted": (b'Transfer-Encoding: "chunked"',),
    "parameter": (b"Transfer-Encoding: chunked;q=1",),
    "empty": (b"Transfer-Encoding:",),
    "underscore": (b"Transfer_Encoding: chunked",),
    "space before colon": (b"Transfer-Encoding : chunked",),
    "leading space": (b" Transfer-Encoding: chunked",),
    "folded": (b"Transfer-Encoding:\r\n chunked",),
    "folded after another": (b"X-A: b\r\n Transfer-Encoding: chunked",),
    "bare CR": (b"X-A: b\rTransfer-Encoding: chunked",),
    "bare LF": (b"X-A: b\nTransfer-Encoding: chunked",),
    "high byte": (b"Transfer-Encoding: chunked\xa0",),
}

Chunker = Callable[[bytes], bytes]


def _sized(before: bytes = b"", after: bytes = b"\r\n", end: bytes = b"\r\n", last: bytes = b"0\r\n\r\n") -> Chunker:
    """A chunk of the whole payload with something odd around its size, and what follows it."""
    return lambda payload: before + b"%x" % len(payload) + after + payload + end + last


# From a payload to a chunked body.
CHUNKS: dict[str, Chunker] = {
    "plain": _sized(),
    "upper": lambda payload: b"%X\r\n%b\r\n0\r\n\r\n" % (len(payload), payload),
    "bytewise": lambda payload: b"".join(b"1\r\n%c\r\n" % byte for byte in payload) + b"0\r\n\r\n",
    "leading zeros": _sized(before=b"0000"),
    "many zeros": _sized(before=b"0" * 40),
    "prefix": _sized(before=b"0x"),
    "plus": _sized(before=b"+"),
    "minus": _sized(before=b"-"),
    "space before": _sized(before=b" "),
    "space behind": _sized(after=b" \r\n"),
    "tab behind": _sized(after=b"\t\r\n"),
    "extension": _sized(after=b";name=value\r\n"),
    "extension with blanks": _sized(after=b" ; name = value\r\n"),
    "quoted extension": _sized(after=b';name="va;l\\"ue"\r\n'),
    "quoted CRLF": _sized(after=b';name="a\r\nb"\r\n'),
    "open quote": _sized(after=b';name="a\r\n'),
    "extension with LF": _sized(after=b";name=a\nb\r\n"),
    "extension with CR": _sized(after=b";name=a\rb\r\n"),
    "extension with NUL": _sized(after=b";a\0b\r\n"),
    "empty extension": _sized(after=b";\r\n"),
    "extension without semicolon": _sized(after=b" name=value\r\n"),
    "endless extension": _sized(after=b";" + b"a" * 20000 + b"\r\n"),
    "LF after size": _sized(after=b"\n"),
    "CR after size": _sized(after=b"\r"),
    "CR CR LF": _sized(after=b"\r\r\n"),
    "LF after data": _sized(end=b"\n"),
    "CR after data": _sized(end=b"\r"),
    "nothing after data": _sized(end=b""),
    "two bytes after data": _sized(end=b"xx"),
    "LF after last": _sized(last=b"0\n\r\n"),
    "LF at the end": _sized(last=b"0\r\n\n"),
    "two LF": _sized(last=b"0\n\n"),
    "many last zeros": _sized(last=b"0000\r\n\r\n"),
    "extension of last": _sized(last=b"0;a=b\r\n\r\n"),
    "empty size": lambda payload: b"\r\n" + payload + b"\r\n0\r\n\r\n",
    "letter": lambda payload: b"g\r\n" + payload + b"\r\n0\r\n\r\n",
    "beyond 64 bits": lambda payload: b"1%016x\r\n" % len(payload) + payload + b"\r\n0\r\n\r\n",
    "too long": lambda payload: b"%x\r\n" % (len(payload) + 8) + payload + b"\r\n0\r\n\r\n",
    "too short": lambda payload: b"%x\r\n" % (len(payload) - 8) + payload + b"\r\n0\r\n\r\n",
    "end before the payload": lambda payload: b"0\r\n\r\n" + payload,
    "end and extra before it": lambda payload: b"0\r\nX: y\r\n\r\n" + payload,
    "payload as trailer": lambda payload: b"0\r\n" + payload,
    "huge": lambda payload: b"7fffffffffffffff\r\n" + payload,
    "size of all": lambda payload: b"ffff\r\n" + payload,
    "trailer": _sized(last=b"0\r\nX-Trailer: a\r\n\r\n"),
    "length as trailer": _sized(last=b"0\r\nContent-Length: 5\r\n\r\n"),
    "coding as trailer": _sized(last=b"0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "host as trailer": _sized(last=b"0\r\nHost: evil\r\nX-VX11-Token: a\r\n\r\n"),
    "folded trailer": _sized(last=b"0\r\nX-T: a\r\n b\r\n\r\n"),
    "trailer without colon": _sized(last=b"0\r\nfoo\r\n\r\n"),
    "trailer with space": _sized(last=b"0\r\nX-T : a\r\n\r\n"),
    "trailer ended by LF": _sized(last=b"0\r\nX-T: a\n\r\n"),
    "cut in the data": lambda payload: b"%x\r\n%b" % (len(payload) + 4000, payload),
    "cut before the end": _sized(last=b""),
    "cut in the trailer": _sized(last=b"0\r\nX-T: a\r\n"),
}
# Bodies that are not meant as chunked, or only by one of two readers.
PLAIN: dict[str, Chunker] = {
    "smuggled": lambda payload: payload,
    "smuggled behind junk": lambda payload: b"x=1\r\n" + payload,
    "smuggled as headers": lambda payload: b"\r\n\r\n" + payload,
    "last chunk first": lambda payload: b"0\r\n\r\n" + payload,
    "none": lambda payload: b"",
}
BODIES = {**PLAIN, **CHUNKS}


@dataclass(frozen=True, slots=True)
class Shape:
    """One ambiguity."""

    method: bytes = b"POST"
    minor: int = 1
    keep_alive: bool = False
    """Whether it says `Connection: keep-alive`."""
    length: str = "none"
    coding: str = "none"
    body: str = "smuggled"
    line_end: bytes = b"\r\n"
    odd_line: int = -1
    """The line of the head that alone ends in `line_end`; -1 is every line."""
    cut: int = 0
    """How it is sent: 0 whole, 1 body apart, 2 marked request apart, else in two at about this byte."""
    target: bytes = b"first"
    """How the first request's path begins."""
    smuggled: bytes = b"GET"
    """The method of the smuggled request."""

    def pieces(self, number: int) -> list[bytes]:
        """The connection's bytes, in segments. `number` marks the requests in them."""
        payload = b"%b /s/smuggled-%d HTTP/1.1\r\nHost: smuggled\r\n\r\n" % (self.smuggled, number)
        body = BODIES[self.body](payload)
        count = b"%d" % len(body)
        lines = [b"%b /s/%b-%d HTTP/1.%d" % (self.method, self.target, number, self.minor), b"Host: first"]
        lines += [b"Connection: keep-alive"] if self.keep_alive else []
        lines += [line.replace(b"N", count) if b"Content" in line else line for line in LENGTHS[self.length]]
        lines += [*CODINGS[self.coding], b""]
        odd = self.odd_line % len(lines) if self.odd_line >= 0 else -1
        head = b"".join(
            line + (self.line_end if odd in (-1, position) else b"\r\n") for position, line in enumerate(lines)
        )
        marked = b"GET /s/marked-%d HTTP/1.1\r\nHost: marked\r\n\r\n" % number
        match self.cut:
            case 0:
                return [head + body + marked]
            case 1:
                return [head, body + marked]
            case 2:
                return [head + body, marked]
        whole = head + body + marked
        cut = self.cut % (len(whole) - 1) + 1
        return [whole[:cut], whole[cut:]]


def usual_shapes() -> Iterator[Shape]:
    """Every pair of length and coding on every method, every body form on every method, every line end: thousands."""
    bodies = list(BODIES)
    count = 0
    for pair, (length, coding) in enumerate(product(LENGTHS, CODINGS)):
        for method in METHODS:
            # The body's form goes round, so that each pair meets many, and each method meets all.
            count += 1
            yield Shape(method, length=length, coding=coding, body=bodies[count % len(bodies)], cut=count % 37)
        for body in ("smuggled", bodies[1 + pair % 4]):
            yield Shape(length=length, coding=coding, body=body)
        yield Shape(METHODS[pair % 7], 0, pair % 3 > 0, length, coding, bodies[pair % 8], cut=pair % 5)
    for method, body in product(METHODS, BODIES):
        for cut in (0, 1, 2, 40 + 13 * count % 160):
            count += 1
            yield Shape(method, coding="chunked", body=body, cut=cut)
        yield Shape(method, length="valid", body=body, cut=count % 3)
        yield Shape(method, 0, count % 5 > 0, "valid", body=body, cut=count % 3)
    framings = (("none", "chunked"), ("valid", "none"), ("none", "none"))
    for (length, coding), end, line, method in product(framings, LINE_ENDS[1:], range(-1, 5), METHODS):
        count += 1
        body = "plain" if coding == "chunked" else bodies[count % 5]
        yield Shape(method, 1, count % 2 == 0, length, coding, body, end, line, count % 4)
    yield from odd_shapes()


def odd_shapes() -> Iterator[Shape]:
    """Methods that no parser has in its table, and bytes beyond ASCII in the target: such lines take a way of their own."""
    codings = ("none", "chunked", "identity", "folded")
    lines = product((*ODD_METHODS, b"GET", b"POST"), (b"first", "f\u00e9".encode(), b"f\xff"), (b"GET", b"BREW"))
    cut = 0
    for (method, target, smuggled), coding, length in product(lines, codings, ("none", "valid", "short")):
        for body in ("smuggled", "smuggled as headers", "plain", "end before the payload"):
            cut += 7
            yield Shape(method, 1, False, length, coding, body, cut=cut % 230, target=target, smuggled=smuggled)


def any_shapes(generator: random.Random, count: int) -> Iterator[Shape]:
    """`count` shapes out of all that there are."""
    lengths, codings, bodies = list(LENGTHS), list(CODINGS), list(BODIES)

    def one_of(*items: Iterable[str]) -> str:
        return generator.choice([name for names in items for name in names])

    for _ in range(count):
        # A doubtful head hides what is wrong with its body: half of the heads are plain.
        length = "none" if generator.random() < 0.4 else one_of(lengths)
        coding = "chunked" if generator.random() < 0.4 else one_of(codings)
        end = b"\r\n" if generator.random() < 0.8 else generator.choice(LINE_ENDS)
        yield Shape(
            generator.choice(METHODS if generator.random() < 0.8 else ODD_METHODS),
            int(generator.random() < 0.8),
            generator.random() < 0.5,
            length,
            coding,
            one_of(bodies),
            end,
            generator.randrange(-1, 6),
            generator.choice((0, 0, 1, 2, generator.randrange(3, 400))),
            generator.choice((b"first", b"first", "f\u00e9".encode())),
            generator.choice((b"GET", b"GET", b"BREW")),
        )
