"""Heads that are known: to all connections of an upstream, for their method only, and never too many."""

from __future__ import annotations

from tentaculo.upstream.response_reader import LONGEST, MOST, ResponseHeadCache, ResponseReader

LIMIT = 4 * LONGEST


def read(
    heads: ResponseHeadCache, *lines: str, method: str = "GET", body: bytes = b"hello"
) -> tuple[ResponseReader, bytes]:
    """A new connection's reader that has read one answer with `lines`, and the head's bytes."""
    raw = "\r\n".join(["HTTP/1.1 200 OK", *lines, "Content-Length: 5", "", ""]).encode()
    reader = ResponseReader(method, LIMIT, heads)
    assert b"".join(reader.feed(raw + body)) == body
    assert reader.is_whole
    return reader, raw


def test_another_connection_reads_the_same_head_no_more() -> None:
    heads = ResponseHeadCache()
    first, _ = read(heads)
    assert read(heads)[0].head is first.head
    assert read(ResponseHeadCache())[0].head is not first.head


def test_it_is_still_known_when_others_came_between() -> None:
    heads = ResponseHeadCache()
    first, _ = read(heads, "X: 1")
    read(heads, "X: 2")
    assert read(heads, "X: 1")[0].head is first.head


def test_its_body_may_come_later() -> None:
    heads = ResponseHeadCache()
    first, raw = read(heads)
    reader = ResponseReader("GET", LIMIT, heads)
    assert reader.feed(raw) == []
    assert (reader.head is first.head, reader.is_whole) == (True, False)
    assert (reader.feed(b"hello"), reader.is_whole) == ([b"hello"], True)


def test_another_method_has_its_own_meaning() -> None:
    heads = ResponseHeadCache()
    _, raw = read(heads)
    assert heads.find("HEAD", raw) is None
    read(heads, method="HEAD", body=b"")
    assert heads.find("GET", raw) is None
    read(heads)


def test_of_a_server_that_never_repeats_itself_no_more_than_some_are_kept() -> None:
    heads = ResponseHeadCache()
    raws = [read(heads, f"X: {number}")[1] for number in range(10 * MOST)]
    assert 0 < sum(heads.find("GET", raw) is not None for raw in raws) <= MOST


def test_a_long_one_is_not_kept() -> None:
    heads = ResponseHeadCache()
    _, raw = read(heads, "X: " + "x" * LONGEST)
    assert heads.find("GET", raw) is None
