"""Where the pages come from: the template folder, the Jinja environment, and inline style with the CSP that allows it."""

from __future__ import annotations

import base64
import functools
import re
import tomllib
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

if TYPE_CHECKING:
    import jinja2


def folder() -> Path:
    """Where the templates are: inside an installed package, else at the root of a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "templates"
    return installed if installed.is_dir() else package.parent / "templates"


def read(name: str) -> str:
    """The text of a file of the template folder."""
    return (folder() / name).read_text("utf-8")


@functools.cache
def texts(name: str) -> dict[str, dict[str, Any]]:
    """One file of the catalogue of texts: each text by its table, in each language by its code. It takes 2 ms."""
    return tomllib.loads(read(f"texts/{name}.toml"))


@functools.cache
def template(name: str) -> jinja2.Template:
    """A page's template. The first call takes 100 ms, so await it in a thread.

    It loads Jinja, 2 MB that a gateway does not need until somebody opens a page, and compiles the template with those
    that it names, which would else be compiled while the page is rendered.
    """
    for named in named_in(read(name)):
        template(named)
    return _environment().get_template(name)


_NAMED = re.compile(r"\{% *(?:extends|import|from|include) \"([^\"]+)\"")


def named_in(source: str) -> list[str]:
    """The templates that the source of a template names. Jinja would parse it for that, and once more to compile it."""
    return list(dict.fromkeys(_NAMED.findall(source)))


@functools.cache
def _environment() -> jinja2.Environment:
    """Text is always escaped, a missing name is an error, and nothing is read twice."""
    import aiohttp_jinja2
    import jinja2

    return aiohttp_jinja2.setup(
        web.Application(),
        default_helpers=False,
        loader=jinja2.FileSystemLoader(folder()),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )


class Inline(msgspec.Struct, frozen=True):
    """A style sheet or script that stands inside the page, and the CSP source that allows exactly it."""

    text: str
    source: str


_BLANKS = {
    ".js": (
        *(
            (f" {sign} ", sign)
            for sign in ("=>", "=", "===", "!==", "&&", "||", "?", ":", "+", "-", "*", "/", "<", ">=")
        ),
        *(("; ", ";"), (" {", "{"), ("{ ", "{"), (" }", "}")),
    ),
    ".css": ((" { ", "{"), ("; ", ";"), (": ", ":")),
}
"""Signs around which a file of this kind needs no blank. No text in the files holds one with its blanks."""


def _compact(name: str) -> str:
    lines = (line.strip() for line in read(name).splitlines())
    text = "".join(f"{line}\n" for line in lines if line and not line.startswith("//"))
    for wide, narrow in _BLANKS[Path(name).suffix]:
        text = text.replace(wide, narrow)
    return text


def inline(*names: str) -> Inline:
    """The files `names` of the template folder, joined, for one `<style>` or `<script>` element.

    Indentation, lines that are only a comment, and blanks around some signs are left out: browsers need none of them, and
    each page carries the rest.
    """
    text = "".join(map(_compact, names))
    digest = base64.b64encode(sha256(text.encode()).digest()).decode()
    return Inline(text, f"'sha256-{digest}'")


def content_security_policy(
    *, styles: Iterable[Inline] = (), scripts: Iterable[Inline] = (), has_forms: bool = False
) -> str:
    """The policy of one page: these styles and scripts, our own and inline images, and nothing else.

    With `has_forms`, forms may be sent to this gateway.
    """
    directives = {
        "default-src": "'none'",
        "style-src": " ".join(style.source for style in styles),
        "script-src": " ".join(script.source for script in scripts),
        "connect-src": "'self'" if scripts else "",
        "img-src": "'self' data:",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
        "form-action": "'self'" if has_forms else "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in directives.items() if value)
