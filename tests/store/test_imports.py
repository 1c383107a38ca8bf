"""What the server may load of the store: not Alembic, no asynchronous SQLAlchemy, no driver it does not use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tentaculo

ROOT = Path(tentaculo.__file__).parent.parent

USE = """
import asyncio, sys
from tentaculo.store.client import StoreClient

async def main():
    store_client = StoreClient(sys.argv[1])
    await store_client.start()
    assert store_client.problem is None, store_client.problem
    assert await store_client.next_events(0, 5) == []
    await store_client.close()

asyncio.run(main())
print(*sorted(sys.modules))
"""


@pytest.mark.thorough
def test_the_store_client_loads_no_more_than_it_needs(file: Path) -> None:
    command = [sys.executable, "-c", USE, f"sqlite:///{file}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "sqlalchemy" in loaded
    unused = {"alembic", "mako", "sqlalchemy.orm", "sqlalchemy.ext.asyncio", "sqlalchemy.dialects.postgresql"}
    assert not loaded & (unused | {"pg8000"})
