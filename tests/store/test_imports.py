"""What the server may load of the store: not Alembic, no asynchronous SQLAlchemy, no driver it does not use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tentaculo

ROOT = Path(tentaculo.__file__).parent.parent
MODULES = sorted(path.stem for path in (ROOT / "tentaculo" / "store").glob("*.py") if path.stem != "__init__")

USE = """
import asyncio, sys
from tentaculo.store.recorder import Recorder

async def main():
    recorder = Recorder(sys.argv[1])
    await recorder.start()
    assert recorder.problem is None, recorder.problem
    assert await recorder.recent_events(5) == []
    await recorder.close()

asyncio.run(main())
print(*sorted(sys.modules))
"""


def run(*arguments: str) -> str:
    command = [sys.executable, "-c", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("module", MODULES)
def test_each_module_imports_alone_and_says_nothing(module: str) -> None:
    assert run(f"import tentaculo.store.{module}") == ""


def test_the_recorder_loads_no_more_than_it_needs(file: Path) -> None:
    loaded = set(run(USE, f"sqlite:///{file}").split())
    assert "sqlalchemy" in loaded
    unused = {"alembic", "mako", "sqlalchemy.orm", "sqlalchemy.ext.asyncio", "sqlalchemy.dialects.postgresql"}
    assert not loaded & (unused | {"pg8000", "pydantic"})
