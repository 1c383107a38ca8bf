"""The picture."""

from __future__ import annotations

from xml.etree import ElementTree

from bench.plot import bars, svg
from bench.results import CaseResult

SVG = "{http://www.w3.org/2000/svg}"


def test_the_fastest_comes_first_and_what_failed_is_left_out(get: CaseResult) -> None:
    assert [bar.peer for bar in bars(get)] == ["nginx", "ours", "envoy"]


def test_bars_are_as_long_as_what_they_show(get: CaseResult) -> None:
    root = ElementTree.fromstring(svg([get]))
    widths = [float(rect.get("width", "")) for rect in root.iter(f"{SVG}rect")]
    texts = ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]
    assert {"Tentáculo Link", "0.52", "GET 1 KB, 32 connections"} <= set(texts)
    right = float(root.get("viewBox", "").split()[2])
    for rect in root.iter(f"{SVG}rect"):
        assert float(rect.get("x", "")) + float(rect.get("width", "")) <= right
    assert [round(width / widths[0], 2) for width in widths] == [1, 0.52, 0.5]


def test_it_has_colours_for_the_dark_and_nothing_from_elsewhere(get: CaseResult) -> None:
    text = svg([get])
    assert "prefers-color-scheme: dark" in text
    assert text.count("http") == text.count('xmlns="http')


def test_nothing_measured_is_a_picture_too() -> None:
    assert ElementTree.fromstring(svg([])).tag == f"{SVG}svg"
