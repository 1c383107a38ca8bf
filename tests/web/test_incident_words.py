"""How an incident ended, in the language of the page: from its code and values, and as it came where there are none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tentaculo.model.reason import Reason, because
from tentaculo.server.content_negotiation import LANGUAGES
from tentaculo.web.incident_words import ending, without_private
from tentaculo.web.languages import language
from tentaculo.web.wording import plain
from tests.support.native_gateway import NOW
from tests.web.test_incidents import HERMES

SECRET = "s3cret"
ENDINGS = {
    "Vuelve a funcionar: respondió 200.": because("recovered", what=because("answered", status=200)),
    "El servicio se quitó de la configuración.": because("removed"),
    "Se apagó: a new disk.": because("switched_off", what=because("stated", stated="a new disk")),
    "Se explica por el fallo de madre: incidente 7.": because("explained_by", root="madre", id=7),
    "Había empezado antes de que se reiniciara la pasarela: incidente 7.": because("begun_before_restart", id=7),
}


def said(cause: Reason, code: str, *, is_private: bool = True) -> str:
    ended = replace(HERMES, ended_at=NOW, ending=str(cause), ending_cause=cause if cause.code else None)
    return plain(ending(ended, language(code), is_private=is_private))


@pytest.mark.parametrize("spanish", ENDINGS)
def test_an_ending_is_said_in_the_language_of_the_page(spanish: str) -> None:
    cause = ENDINGS[spanish]
    assert said(cause, "es") == spanish
    assert said(cause, "en") == f"{str(cause).removesuffix('.')}."


@pytest.mark.parametrize("code", LANGUAGES)
def test_everybody_sees_no_text_of_a_service_in_an_ending(code: str) -> None:
    for cause in (because("recovered", what=SECRET), Reason(f"It is healthy again: {SECRET}")):
        shown = said(cause, code, is_private=False)
        assert SECRET not in shown
        assert len(shown) > len("…")
        ended = without_private(replace(HERMES, ending=str(cause), ending_cause=cause if cause.code else None))
        assert SECRET not in str(ended)


def test_an_ending_of_an_earlier_version_stays_as_it_came() -> None:
    assert said(Reason("It is healthy again: answered 200"), "es") == "It is healthy again: answered 200."


def test_what_is_open_has_no_ending() -> None:
    assert ending(HERMES, language("es"), is_private=True) == ""
