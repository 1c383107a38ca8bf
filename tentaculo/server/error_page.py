"""The page for people about a request that the gateway refuses, or could not pass on, in the language of its reader.

It names the failure, the service and the request, and no service's address. It is made without Jinja, which a gateway
loads for its status pages only.
"""

from __future__ import annotations

import functools
import html
import re
from string import Formatter, Template

from tentaculo.model.failure import Failure, Problem
from tentaculo.server import templating

_ASK_STATUS = "ask_status"
_HINTS = {
    Failure.AUTH_REQUIRED: ("auth_required",),
    Failure.MISSING_SCOPE: ("missing_scope",),
    Failure.FORBIDDEN: ("forbidden",),
    Failure.NOT_FOUND: ("not_found",),
    Failure.CIRCUIT_OPEN: ("circuit_open", _ASK_STATUS),
    Failure.SERVICE_OFF: (_ASK_STATUS,),
    Failure.CONNECT_REFUSED: (_ASK_STATUS,),
    Failure.CONNECT_TIMEOUT: (_ASK_STATUS,),
    Failure.CONNECTION_LOST: (_ASK_STATUS,),
    Failure.FIRST_BYTE_TIMEOUT: (_ASK_STATUS,),
    Failure.DNS_FAILED: (_ASK_STATUS,),
}
"""What to do about a failure: texts `hint_…` of the catalogue."""


class ErrorPage:
    """The page, with the texts of `templates/texts/error.toml`."""

    def __init__(self) -> None:
        self._style = templating.inline("base.css", "error.css")
        self._brand = templating.read("brand.html")
        self._template = Template(templating.read("error.html"))
        self.policy = templating.content_security_policy(styles=[self._style])

    def render(self, problem: Problem, request_id: str | None, language: str = "en") -> bytes:
        """The page as UTF-8. `language` is a code of `content_negotiation.LANGUAGES`."""
        texts = {key: one[language] for key, one in templating.texts("error").items()}
        hints = [texts[f"hint_{key}"] for key in _HINTS.get(problem.failure, ())]
        trace = texts["request"].format(id=f"<code>{html.escape(request_id)}</code>") if request_id else ""
        text = self._template.substitute(
            language=language,
            style=self._style.text,
            brand=self._brand,
            number=texts["number"].format(status=problem.status),
            title=html.escape(texts.get(f"title_{problem.failure.name.lower()}", problem.failure.title)),
            paragraphs=_detail(problem, language) + _paragraph(' class="hint"', html.escape(" ".join(hints))),
            status_link=html.escape(texts["status_link"]),
            trace=_paragraph(' class="trace"', trace),
        )
        return text.encode("utf-8", "replace")


@functools.cache
def error_page() -> ErrorPage:
    """The error page, read at the first call."""
    return ErrorPage()


def translated(detail: str, language: str) -> str | None:
    """What the gateway says in English of one request, in another language; None where the catalogue does not have it."""
    details = _details()
    if detail in details:
        return details[detail][language]
    for pattern, one in _patterns():
        if found := pattern.fullmatch(detail):
            return one[language].format_map(found.groupdict())
    return None


@functools.cache
def _details() -> dict[str, dict[str, str]]:
    """The translations of a detail by its text in English."""
    return {one["en"]: one for key, one in templating.texts("error").items() if key.startswith("detail_")}


@functools.cache
def _patterns() -> list[tuple[re.Pattern[str], dict[str, str]]]:
    """The same for those with values."""
    return [
        (re.compile("".join(map(_pattern, Formatter().parse(text)))), one)
        for text, one in _details().items()
        if "{" in text
    ]


def _pattern(part: tuple[str, str | None, str | None, str | None]) -> str:
    words, name, _, _ = part
    return re.escape(words) + (f"(?P<{name}>.{{1,500}})" if name else "")


def _detail(problem: Problem, language: str) -> str:
    """What happened, with the service's name: on a page the members `service` and `reason` are not seen otherwise."""
    service, text = problem.extra.get("service"), problem.detail or problem.extra.get("reason") or ""
    name, is_english = service or "", language == "en"
    text = text.removeprefix(f"{name}: ") if name else text
    if not is_english and (known := translated(text, language)) is not None:
        text, is_english = known, True
    if is_english:
        return _paragraph("", html.escape(": ".join(filter(None, (name, text)))))
    if problem.failure is Failure.SERVICE_OFF:
        # An operator wrote it.
        return _paragraph("", f'{html.escape(name)}: <bdi lang="">{html.escape(text)}</bdi>')
    # The title says what became of a request to a service. Of another one its words say more, and are those of the API.
    return _paragraph("", html.escape(name)) if name else _paragraph(' lang="en"', html.escape(text))


def _paragraph(attributes: str, markup: str) -> str:
    return f"<p{attributes}>{markup}</p>\n" if markup else ""
