from __future__ import annotations

import re

from tentaculo.config.environment import FLEET_TOKEN, PLAIN_TOKENS
from tools.configuration_keys import DOCUMENT, with_tables

TEXT = DOCUMENT.read_text(encoding="utf-8")


def test_the_list_of_keys_is_current() -> None:
    assert with_tables(TEXT) == TEXT, "run python -m tools.configuration_keys"


def test_tokens_and_exit_codes_are_documented() -> None:
    for name in (*PLAIN_TOKENS, FLEET_TOKEN, "TENTACULO_CONFIG"):
        assert f"`{name}`" in TEXT
    assert re.findall(r"(?m)^\| (\d) \|", TEXT) == ["0", "1", "2", "3"]
