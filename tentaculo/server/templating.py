"""Where the pages come from: the template folder, the Jinja settings, and inline style with the CSP that allows it."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp_jinja2
import jinja2
from aiohttp import web
from markupsafe import Markup


def folder() -> Path:
    """Where the templates are: inside an installed package, else at the root of a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "templates"
    return installed if installed.is_dir() else package.parent / "templates"


def settings() -> dict[str, Any]:
    """Jinja's settings for every page: escaped always, a missing name is an error, nothing is read twice."""
    return {
        "loader": jinja2.FileSystemLoader(folder()),
        "autoescape": True,
        "undefined": jinja2.StrictUndefined,
        "auto_reload": False,
        "trim_blocks": True,
        "lstrip_blocks": True,
    }


def setup(app: web.Application) -> None:
    """Give `app` its template environment; pages cannot be served without it."""
    environment = aiohttp_jinja2.setup(app, default_helpers=False, **settings())
    # Compiled now: it would hold the loop for 20 ms at the first request.
    for name in environment.list_templates(extensions=["html"]):
        environment.get_template(name)


@dataclass(frozen=True, slots=True)
class Inline:
    """A style sheet or script that stands inside the page, and the CSP source that allows exactly it."""

    text: Markup
    source: str


def inline(*names: str) -> Inline:
    """The files `names` of the template folder, joined, for one `<style>` or `<script>` element."""
    text = "".join((folder() / name).read_text("utf-8") for name in names)
    digest = base64.b64encode(sha256(text.encode()).digest()).decode()
    # The project's own file, never anything that a client or a service sent.
    return Inline(Markup(text), f"'sha256-{digest}'")  # noqa: S704


def content_security_policy(*, styles: Iterable[Inline] = (), scripts: Iterable[Inline] = ()) -> str:
    """The policy of one page: these styles and scripts, our own and inline images, and nothing else."""
    directives = {
        "default-src": "'none'",
        "style-src": " ".join(style.source for style in styles),
        "script-src": " ".join(script.source for script in scripts),
        "connect-src": "'self'" if scripts else "",
        "img-src": "'self' data:",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in directives.items() if value)
