"""The templates of the pages, and their style and script as they are sent."""

from __future__ import annotations

import re

import jinja2
import pytest
from jinja2.meta import find_referenced_templates

from tentaculo.server import templating

TEXTS = re.compile(r"""\"(?:[^\"\\\n]|\\.)*\"|`[^`]*`|/(?![/*\s])(?:[^/\n\\]|\\.)+/""")
"""Strings and regular expressions of JavaScript."""


def test_the_templates_that_a_page_names_are_found() -> None:
    sources = [path.read_text("utf-8") for path in templating.folder().glob("*.html")]
    parse = jinja2.Environment().parse
    found = [set(templating.named_in(source)) for source in sources]
    assert found == [set(find_referenced_templates(parse(source))) for source in sources]
    assert {"base.html", "parts.html"} <= set().union(*found)


def test_no_text_of_the_script_loses_a_blank() -> None:
    lines = (line.strip() for line in templating.read("status.js").splitlines())
    source = "\n".join(line for line in lines if not line.startswith("//"))
    sent = templating.inline("status.js").text
    # What a template computes is no text.
    texts = [part for text in TEXTS.findall(source) for part in re.split(r"\$\{[^}]*\}", text)]
    assert len(texts) > 100
    assert [text for text in texts if text not in sent] == []


@pytest.mark.parametrize("joined", [r"\+ \+", r"- -"])
def test_no_two_signs_of_the_script_become_one(joined: str) -> None:
    assert re.search(joined, templating.read("status.js")) is None


def test_there_is_room_for_more() -> None:
    assert len(templating.inline("status.js").text.encode()) <= 9_800
