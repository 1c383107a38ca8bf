"""How an incident ended, in words: the sentences of `incidents.tracker` in every language."""

from __future__ import annotations

import pytest

from tentaculo.model.incident import REMOVED, SWITCHED_OFF
from tentaculo.web import endings
from tentaculo.web.languages import NAMES, language
from tentaculo.web.reasons import plain

SENTENCES = {
    "It is healthy again: answered 200 in 4 ms": "Vuelve a estar sano: respondió 200 en 4 ms.",
    "Healthy when the gateway started; last seen failing at 2026-03-03 14:02 UTC, not monitored in between.": (
        "Sano cuando arrancó la pasarela; visto fallando por última vez: 2026-03-03 14:02 UTC, sin vigilancia entretanto."
    ),
    "Its probes pass, and no request has reached it since: a text": (
        "Sus sondeos pasan, y ninguna petición le ha llegado desde entonces: a text."
    ),
    f"{SWITCHED_OFF}: a new disk": "Se apagó: a new disk.",
    f"{REMOVED}.": "El servicio ya no está configurado.",
    "It had begun before the gateway was restarted: incident 7.": (
        "Había empezado antes de reiniciarse la pasarela: incidente 7."
    ),
    "Explained by the failure of hermes: incident 7.": "Se explica por el fallo de hermes: incidente 7.",
}


@pytest.mark.parametrize("text", SENTENCES)
def test_each_ending_is_translated(text: str) -> None:
    assert plain(endings.said(text, language("es"), 300)) == SENTENCES[text]
    assert plain(endings.said(text, language("en"), 300)) == f"{text.removesuffix('.')}."


@pytest.mark.parametrize("code", NAMES)
def test_what_a_service_said_is_private(code: str) -> None:
    said = endings.said("It is healthy again: the secret text", language(code), 300, is_private=False)
    assert "secret" not in said
    assert "secret" not in endings.said("Another version said: the secret text", language(code), 300, is_private=False)


def test_no_ending_is_no_text() -> None:
    assert endings.said("", language("es"), 300) == ""
