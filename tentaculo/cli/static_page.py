"""Makes a file of a status page: without script and forms, with links to the other files, and with what it is a copy of."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from html import escape
from html.parser import HTMLParser
from typing import Final
from urllib.parse import urljoin, urlsplit

_DROPPED: Final = frozenset({"script", "noscript", "form"})
"""Elements that do nothing in a file."""
_DROPPED_NAMES: Final = frozenset({"read", "groups", "languages", "api"})
"""Ids and classes of such elements: what the cursor meets, choices that have no file, and links to the API."""
_EMPTY: Final = frozenset({"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"})
"""Elements that have no end tag."""
_ASIDE: Final = frozenset({"nav", "footer", "header"})
"""Elements of which a link that leads nowhere is left out with its text."""
_SCHEMES: Final = frozenset({"http", "https", "data"})
"""Of addresses that stay as they are; a browser opens none of `data` that somebody follows."""
_STYLE: Final = re.compile(r"<style>(.*?)</style>", re.DOTALL)
_TITLE: Final = re.compile(r"<title>(.*?)</title>", re.DOTALL)
_ICON: Final = re.compile(r'<link id="icon" rel="icon" href="[^"]*">')
FileOf = Callable[[str], str | None]
"""The file of a path with its query, from the root of the export; None where it has none."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What a page says about itself above everything else."""

    headline: str
    """What is wrong that the page does not know; empty where nothing is."""
    text: str
    icon: str = ""
    """The tab's icon with `headline`, as an address."""


def static_page(text: str, address: str, depth: int, file_of: FileOf, notice: Notice) -> tuple[str, list[str]]:
    """The page `text` of `address` as a file that lies `depth` folders below the root of the export.

    Also returns the addresses of the gateway that have a file and to which it leads.
    """
    if notice.headline:
        text = _TITLE.sub(lambda found: f"<title>{escape(notice.headline)} {found[1]}</title>", text, count=1)
        text = _ICON.sub(lambda _: f'<link rel="icon" href="{escape(notice.icon)}">', text, count=1)
    parser = _Parser(address, "../" * depth, file_of, notice)
    parser.feed(text)
    parser.close()
    return "".join(parser.parts), parser.links


def _policy(styles: list[str]) -> str:
    """The policy of a file, which no server may send: these styles, and nothing else."""
    digests = [base64.b64encode(sha256(one.encode()).digest()).decode() for one in styles]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
    policy = f"default-src 'none'; style-src {allowed}; img-src data:; base-uri 'none'; form-action 'none'"
    return f'<meta http-equiv="Content-Security-Policy" content="{policy}">'


def _start_tag(tag: str, attributes: Mapping[str, str | None]) -> str:
    given = "".join(' {}="{}"'.format(name, escape(value or "")) for name, value in attributes.items())
    return f"<{tag}{given}>"


class _Parser(HTMLParser):
    """Passes everything on as it came, but for what a file needs."""

    def __init__(self, address: str, root: str, file_of: FileOf, notice: Notice) -> None:
        super().__init__(convert_charrefs=False)
        self.parts: list[str] = []
        self.links: list[str] = []
        self._address = address
        self._root = root
        self._file_of = file_of
        self._notice = notice
        self._open: list[str] = []
        self._skipped: int | None = None
        """How many elements were open where an element began that is left out; None outside."""

    def feed(self, data: str) -> None:
        """Take the whole page."""
        self._styles = _STYLE.findall(data)
        super().feed(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        is_left_out = tag in _DROPPED or not _DROPPED_NAMES.isdisjoint((given.get("id"), given.get("class")))
        raw = self.get_starttag_text() or ""
        if tag in ("a", "link") and "href" in given and not is_left_out:
            found = self._link(given["href"] or "")
            if found is None:
                is_left_out = tag == "link" or not _ASIDE.isdisjoint(self._open)
                del given["href"]
            else:
                given["href"] = found
            raw = _start_tag(tag, given)
        if tag not in _EMPTY and not raw.endswith("/>"):
            if is_left_out and self._skipped is None:
                self._skipped = len(self._open)
            self._open.append(tag)
        elif is_left_out:
            return
        if tag == "body":
            raw = '<body class="stale">'
        # There is one first heading: what the page does not know.
        self._write("<h2>" if tag == "h1" and self._notice.headline else raw)
        if tag == "head":
            self._write(_policy(self._styles))
        elif tag == "main":
            self._write(self._note())

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass
        if self._skipped is not None:
            if len(self._open) <= self._skipped:
                self._skipped = None
            return
        self._write("</h2>" if tag == "h1" and self._notice.headline else f"</{tag}>")

    def handle_data(self, data: str) -> None:
        self._write(data)

    def handle_entityref(self, name: str) -> None:
        self._write(f"&{name};")

    def handle_charref(self, name: str) -> None:
        self._write(f"&#{name};")

    def handle_decl(self, decl: str) -> None:
        self._write(f"<!{decl}>")

    def _write(self, text: str) -> None:
        if self._skipped is None:
            self.parts.append(text)

    def _link(self, href: str) -> str | None:
        """Where a link leads in a file; None where it leads to nothing that is exported."""
        scheme = urlsplit(href).scheme
        if href.startswith("#") or scheme in _SCHEMES:
            return href
        if scheme:
            return None
        target, mark, fragment = urljoin(self._address, href).partition("#")
        if (file := self._file_of(target)) is None:
            return None
        self.links.append(target)
        return f"{self._root}{file}{mark}{fragment}"

    def _note(self) -> str:
        head = f"<h1>{escape(self._notice.headline)}</h1>" if self._notice.headline else ""
        return f'<section class="hero">{head}<p class="lead">{escape(self._notice.text)}</p></section>'
