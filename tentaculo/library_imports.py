"""The first import of aiohttp and structlog in a process that serves, without what the gateway does not use of them.

All of it together takes up to 6 MB of memory and a twentieth of a second. It must be called before anything else imports them.
"""

from __future__ import annotations

import importlib
import mimetypes
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

LIBRARIES = ("aiohttp", "structlog")
ABSENT = ("brotli", "bz2", "greenlet", "lzma", "rich")
"""What these libraries, SQLAlchemy and Python's own modules import where it is there, and the gateway does not use."""
ENVIRONMENT = {
    # aiohttp loads the system's trust store for its client. The gateway does not use that client, and without a store it
    # trusts nobody.
    "SSL_CERT_FILE": "",
    "SSL_CERT_DIR": "",
    # The compiled form of these lists loads the library of C++, and the gateway has about ten of them.
    "FROZENLIST_NO_EXTENSIONS": "1",
}


def import_libraries() -> None:
    """Import `LIBRARIES`. The process's environment is afterwards what it was."""
    # aiohttp reads the types of files as soon as it is imported. The gateway serves no files.
    mimetypes.knownfiles.clear()
    for name in ABSENT:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type] # what Python takes for a package that is not there
    with _environment(ENVIRONMENT):
        for name in LIBRARIES:
            importlib.import_module(name)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
