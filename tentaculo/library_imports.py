"""The first import of aiohttp and structlog in a process that serves, without what the gateway does not use of them.

All of that takes up to 9 MB of memory and a tenth of the time of a start. It must be called before anything else
imports them.
"""

from __future__ import annotations

import gc
import importlib
import mimetypes
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import find_spec
from threading import RLock
from types import ModuleType

LIBRARIES = ("aiohttp.web", "structlog")
ABSENT = ("brotli", "bz2", "greenlet", "lzma", "rich")
"""What these libraries, SQLAlchemy and Python's own modules import where it is there, and the gateway does not use."""
DEFERRED = frozenset(
    {
        "aiohttp",  # the names of its client; the gateway imports the modules of the server, and their names from them
        "attr.validators",
        "idna",  # yarl needs it for host names that are not ASCII
        "importlib.metadata",
        "msgspec.inspect",
        "sqlalchemy.dialects.sqlite.aiosqlite",
        "sqlalchemy.dialects.sqlite.pysqlcipher",
        "structlog.stdlib",
    }
)
"""Modules that libraries import and do not use. The code of each runs when somebody asks for a name that it defines."""
ENVIRONMENT = {
    # The compiled form of these lists loads the library of C++, and the gateway has about ten of them.
    "FROZENLIST_NO_EXTENSIONS": "1",
}
GC_THRESHOLDS = (10_000, 5, 5)
"""Allocations between two collections of the youngest, and of them between those of the older.

With Python's own 700 the collector walks again and again through the modules, which stay, and later through what thousands
of requests in flight hold. Neither a request nor what goes wrong with it makes cycles (tests/wire/test_garbage.py)."""
_VERSION = re.compile(r'^__version__ = "([^"]*)"', re.MULTILINE)


def import_libraries() -> None:
    """Import `LIBRARIES`. The process's environment is afterwards what it was."""
    gc.set_threshold(*GC_THRESHOLDS)
    # aiohttp reads the types of files as soon as it is imported. The gateway serves no files.
    mimetypes.knownfiles.clear()
    for name in ABSENT:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type] # what Python takes for a package that is not there
    sys.meta_path.insert(0, _DeferringFinder)
    with _environment(ENVIRONMENT):
        for name in LIBRARIES:
            importlib.import_module(name)


class _DeferringFinder:
    """Finds the modules of `DEFERRED` as Python does, and has their code run later."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name in DEFERRED else None
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _DeferringLoader(spec.loader.name, spec.loader.path)
        return spec


class _DeferringLoader(SourceFileLoader):
    """Runs a module's code at the first look-up of a name that the module does not have yet.

    `importlib.util.LazyLoader` cannot do this for a package: the import of a module inside it would run its code.
    """

    def exec_module(self, module: ModuleType) -> None:
        names, lock, is_running = vars(module), RLock(), False

        def look_up(name: str) -> object:
            nonlocal is_running
            # A module of aiohttp imports its version.
            if name == "__version__" and (found := _VERSION.search(self.get_source(module.__name__) or "")):
                return found[1]
            inner = f"{module.__name__}.{name}"
            if "__path__" in names and find_spec(inner) is not None:
                return importlib.import_module(inner)
            with lock:  # other threads wait until the code has run
                if names.get("__getattr__") is look_up and not is_running:
                    is_running = True
                    try:
                        SourceFileLoader.exec_module(self, module)
                    finally:
                        is_running = False
                    if names["__getattr__"] is look_up:
                        del names["__getattr__"]
            if not is_running:
                return getattr(module, name)
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}", name=name, obj=module)

        names["__getattr__"] = look_up


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
