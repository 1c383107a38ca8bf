"""Migration tests start from an empty database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

_read: Callable[[Config], ScriptDirectory] = ScriptDirectory.from_config


@cache
def _scripts(place: str | None) -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(place).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return _read(config)


@pytest.fixture(autouse=True, scope="package")
def _read_scripts_once() -> Iterator[None]:
    """Alembic reads all revisions for each step, which takes as long as the step; these tests do thousands of steps."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            ScriptDirectory, "from_config", lambda config: _scripts(config.get_main_option("script_location"))
        )
        yield


@pytest.fixture
def url(empty_url: str) -> str:
    """The URL of an empty database of each kind."""
    return empty_url
