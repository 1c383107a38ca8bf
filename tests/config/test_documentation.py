from __future__ import annotations

import re
from pathlib import Path

import pytest

from tentaculo.config.environment import FLEET_TOKEN, PLAIN_TOKENS
from tools.render_docs import CONFIGURATION, ROOT, rendered

TEXT = CONFIGURATION.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", rendered(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_rendered_file_is_current(path: Path) -> None:
    """These files come from the declarations of the keys, so a new key touches schema, consumer and test only."""
    assert path.read_text(encoding="utf-8") == rendered()[path], "run make docs"


def test_tokens_and_exit_codes_are_documented() -> None:
    for name in (*PLAIN_TOKENS, FLEET_TOKEN, "TENTACULO_CONFIG"):
        assert f"`{name}`" in TEXT
    assert re.findall(r"(?m)^\| (\d) \|", TEXT) == ["0", "1", "2", "3"]
