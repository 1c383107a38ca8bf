"""atheris: a search guided by coverage in each target of `tests/fuzz`, for a while.

What is found becomes a seed or a test beside the module it was found in.
"""

from __future__ import annotations

import asyncio
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS
from tests.support.gateway_process import ROOT
from tests.support.needs import need
from tests.support.search import SEARCH

SECONDS = 5 * SEARCH
"""For each target."""

pytestmark = pytest.mark.timeout(SECONDS + 60)


@pytest.mark.parametrize("name", TARGETS)
async def test_no_input_breaks_it(name: str, tmp_path: Path) -> None:
    if sys.version_info < (3, 14):
        need(find_spec("atheris"), "atheris (requirements-conformance.txt)")
    else:
        pytest.skip("atheris has no release for this Python")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.fuzz.search", name, str(SECONDS), str(tmp_path)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), SECONDS + 45)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = output.decode(errors="replace")
    assert process.returncode == 0, text[-4000:]
    assert "Done " in text
