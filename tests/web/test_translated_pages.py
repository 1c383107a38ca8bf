"""Every page in every language: no English is left, beside what somebody else wrote."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from tentaculo.server.content_negotiation import LANGUAGES
from tentaculo.web.languages import catalogue
from tests.browser.pages import PAGES, Shown
from tests.support.gateway_process import ROOT
from tests.support.native_gateway import running

OTHERS = [code for code in LANGUAGES if code != "en"]
ENGLISH_WORDS = re.compile(
    r"\b(the|is|are|of|was|were|with|and|not|from|this|by|has been|its|it|to|at|in the|last|since|before|after|or|be|"
    r"shown|known|none|nothing|every|each|more|some)\b",
    re.IGNORECASE,
)
SHOWN_ATTRIBUTES = ("aria-label", "title", "placeholder", "alt", "data-say")
VOID = {"meta", "link", "input", "br", "img", "hr"}
NO_LANGUAGE = {"style", "script", "code", "pre", "time"}
"""Elements without text of the page. The title of a `time` is UTC in figures."""


class Own(HTMLParser):
    """The texts of a page that are in its language: all but those of an element that opens its language."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._open: list[tuple[str, bool]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        is_foreign = self._is_foreign or ("lang" in found and tag != "html") or tag in NO_LANGUAGE
        if not is_foreign:
            self.texts += [found[name] or "" for name in SHOWN_ATTRIBUTES if name in found]
        if tag not in VOID:
            self._open.append((tag, is_foreign))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not self._is_foreign and data.strip():
            self.texts.append(" ".join(data.split()))

    @property
    def _is_foreign(self) -> bool:
        return bool(self._open) and self._open[-1][1]


async def texts(shown: Shown, code: str) -> list[str]:
    headers = {"Accept-Language": code, "Accept": "text/html"}
    async with running(shown.state()) as gateway, gateway.client.get(shown.path, headers=headers) as response:
        assert response.status == shown.status
        return Own(await response.text()).texts


@pytest.mark.thorough
@pytest.mark.parametrize("code", OTHERS)
@pytest.mark.parametrize("shown", PAGES, ids=str)
async def test_no_english_is_left(shown: Shown, code: str) -> None:
    # An isolate in an attribute stands for the element that opens the language. What a reader looked for is quoted.
    found = [re.sub("\u2068[^\u2069]*\u2069|[«“].*[»”]", "", text) for text in await texts(shown, code)]
    assert len(found) > 5
    assert [text for text in found if ENGLISH_WORDS.search(text)] == []


def test_each_page_is_listed_once() -> None:
    assert len(set(map(str, PAGES))) == len(PAGES)


async def test_it_would_find_english() -> None:
    assert len([text for text in await texts(PAGES[0], "en") if ENGLISH_WORDS.search(text)]) > 10


def test_the_words_of_the_check_are_english_only() -> None:
    for key, one in catalogue().items():
        for code in OTHERS:
            forms = [one[code]] if isinstance(one[code], str) else one[code]
            for form in forms:
                assert not ENGLISH_WORDS.search(re.sub(r"\{\w+\}", "", str(form))), (key, code)


SAME_EVERYWHERE = {"Tentáculo Link", "Atom", "JSON"}


@pytest.mark.parametrize("path", sorted((ROOT / "templates").glob("*.html")), ids=lambda path: path.name)
def test_templates_have_no_text_of_their_own(path: object) -> None:
    template = re.sub(r"\{#.*?#\}", "", (ROOT / "templates" / str(path)).read_text("utf-8"), flags=re.DOTALL)
    template = re.sub(r"\{\{.*?\}\}|\{%.*?%\}", "", template, flags=re.DOTALL)
    template = re.sub(r"\$\w+", "", template)  # the page of errors
    # What has an equals sign is the query string of a link, or an attribute, of a macro.
    found = [re.sub(r"[^\w\s]", "", text).strip() for text in Own(template).texts if "=" not in text]
    assert {text for text in found if re.search(r"[^\W\d_]{2}", text)} <= SAME_EVERYWHERE
