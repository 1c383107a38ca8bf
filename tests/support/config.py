"""Loading for tests: from tables or from a file's text, with an environment of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tentaculo.config.errors import ConfigError
from tentaculo.config.loader import Loaded, load

LoadText = Callable[..., Loaded]
FaultsOf = Callable[..., list[str]]

SECRET = "hunter2-never-shown"


@pytest.fixture
def load_text(tmp_path: Path) -> LoadText:
    """Write the text to tentaculo.toml in a folder of its own, and load it."""

    def write_and_load(text: str = "", environ: Mapping[str, str] | None = None) -> Loaded:
        file = tmp_path / "tentaculo.toml"
        file.write_text(text, encoding="utf-8")
        return load(file, environ or {})

    return write_and_load


@pytest.fixture
def faults_of(load_text: LoadText) -> FaultsOf:
    """The faults of a text, as they are shown. None of them may show the tests' secret."""

    def collect(text: str = "", environ: Mapping[str, str] | None = None) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load_text(text, environ)
        assert SECRET not in str(caught.value) + repr(caught.value)
        return [str(fault) for fault in caught.value.faults]

    return collect
