"""What the first import of the libraries leaves out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tentaculo.library_imports import ABSENT
from tests.support.certificates import self_signed
from tests.support.gateway_process import ROOT, clean_environment

_CODE = """
import json, os, ssl, sys
from tentaculo.library_imports import import_libraries
before = dict(os.environ)
import_libraries()
from aiohttp import connector
import frozenlist
contexts = [value for value in vars(connector).values() if isinstance(value, ssl.SSLContext)]
print(json.dumps({
    "environment": dict(os.environ) == before,
    "certificates": [context.cert_store_stats()["x509_ca"] for context in contexts],
    "verify": [context.verify_mode == ssl.CERT_REQUIRED for context in contexts],
    "loaded": sorted(name for name, module in sys.modules.items() if module is not None),
    "own": ssl.create_default_context().cert_store_stats()["x509_ca"],
}))
"""


@pytest.mark.thorough
@pytest.mark.parametrize("given", [{}, {"SSL_CERT_FILE": "bundle"}])
def test_a_process_that_serves_loads_no_more_than_it_uses(given: dict[str, str], tmp_path: Path) -> None:
    environment = {**clean_environment(), "PYTHONPATH": str(ROOT)}
    environment |= dict.fromkeys(given, str(self_signed(tmp_path).certificate))
    done = subprocess.run([sys.executable, "-c", _CODE], env=environment, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert found["environment"], "the process's environment is what it was"
    assert found["certificates"] == [0, 0], "aiohttp's client has no trust store"
    assert sorted(found["verify"]) == [False, True], "and the context that verifies does"
    assert not {"frozenlist._frozenlist", *ABSENT} & set(found["loaded"])
    if given:
        assert found["own"] == 1, "a context of the gateway has the trust store that the operator names"
