"""What the first import of the libraries leaves out, and that it is there as soon as somebody asks for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tentaculo.library_imports import ABSENT, DEFERRED
from tests.support.certificates import self_signed
from tests.support.gateway_process import ROOT, clean_environment

_CODE = """
import json, os, ssl, sys
from tentaculo.library_imports import DEFERRED, import_libraries
before = dict(os.environ)
import_libraries()
import frozenlist, msgspec, sqlalchemy.dialects.sqlite

def not_run():
    return sorted(name for name in DEFERRED if "__getattr__" in vars(sys.modules[name])
                  and vars(sys.modules[name])["__getattr__"].__module__ == "tentaculo.library_imports")

found = {
    "environment": dict(os.environ) == before,
    "loaded": sorted(name for name, module in sys.modules.items() if module is not None),
    "not_run": not_run(),
}
import aiohttp
found["version"] = [aiohttp.__version__, aiohttp.http.SERVER_SOFTWARE.rpartition("/")[2]]
found["not_run_after_version"] = not_run()
"""
_ALL = """
import importlib, importlib.metadata, threading
found["same_version"] = importlib.metadata.version("aiohttp") == found["version"][0]
names = []
threads = [threading.Thread(target=lambda: names.append(aiohttp.ClientSession)) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
from aiohttp import ClientSession, connector
found["sessions"] = [name is ClientSession for name in names]
found["client"] = aiohttp.client.ClientSession is ClientSession
for name in DEFERRED:
    module = sys.modules[name]
    missing = []
    try:
        module.not_a_name
    except AttributeError as error:
        missing.append(str(error))
    found[name] = missing
found["not_run_at_the_end"] = not_run()
found["public"] = [name for name in aiohttp.__all__ if not hasattr(aiohttp, name) and not name.startswith("Gunicorn")]
contexts = [value for value in vars(connector).values() if isinstance(value, ssl.SSLContext)]
found["certificates"] = [context.cert_store_stats()["x509_ca"] for context in contexts]
"""


def found_by(code: str, environment: dict[str, str] | None = None) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nprint(json.dumps(found))"],
        env={**clean_environment(), "PYTHONPATH": str(ROOT), **(environment or {})},
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.thorough
def test_a_process_that_serves_loads_no_more_than_it_uses() -> None:
    found = found_by(_CODE)
    assert found["environment"], "the process's environment is what it was"
    assert not {"frozenlist._frozenlist", "aiohttp.client", "zipfile", *ABSENT} & set(found["loaded"])
    assert found["not_run"] == sorted(DEFERRED)


@pytest.mark.thorough
def test_what_is_left_out_is_there_when_somebody_asks(tmp_path: Path) -> None:
    found = found_by(_CODE + _ALL, {"SSL_CERT_FILE": str(self_signed(tmp_path).certificate)})
    assert found["version"][0] == found["version"][1]
    assert found["not_run_after_version"] == sorted(DEFERRED), "its version is read from its source"
    assert found["same_version"]
    assert found["sessions"] == [True] * 8, "threads that ask together get the same"
    assert found["client"]
    assert found["not_run_at_the_end"] == []
    assert found["public"] == []
    for name in DEFERRED:
        assert len(found[name]) == 1, f"a name that {name} does not define"
    assert found["certificates"] == [1, 1], "its client has the trust store that the operator names"
