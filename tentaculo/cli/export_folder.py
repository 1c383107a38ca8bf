"""The folder of an export: each file is replaced whole, and only files that an export wrote are ever touched."""

from __future__ import annotations

import fcntl
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from tentaculo.cli.output import FaultError, StartError

MANIFEST: Final = ".tentaculo-export.json"
"""The list of the files that the exports wrote."""
_PART: Final = ".tentaculo-"
_PART_END: Final = ".part"
"""How the name of a file begins and ends that is being written."""
_NAME: Final = re.compile(r"(?:[A-Za-z0-9_-]+/){0,3}[A-Za-z0-9_-]+\.(?:html|json|atom)")
"""Names of files that an export writes. Nothing else is removed, whatever the manifest says."""


class Written(NamedTuple):
    """What an export did."""

    files: int
    changed: int
    removed: int


def write(folder: Path, files: Mapping[str, bytes]) -> Written:
    """Make `folder` hold `files` and no file of an earlier export beside them.

    The files are written in their order. Raises `FaultError` where a file is in the way that no export wrote, and
    `StartError` where the folder cannot be written or another export writes it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            return _write(folder, files)
    except OSError as error:
        if isinstance(error, FileExistsError | NotADirectoryError):
            raise FaultError(f"{folder} is not a folder") from None
        raise StartError(f"{folder} cannot be written: {error.strerror or type(error).__name__}") from None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartError(f"another export writes {folder} now") from None
        yield
    finally:
        os.close(descriptor)


def _write(folder: Path, files: Mapping[str, bytes]) -> Written:
    ours = _read_manifest(folder)
    for name in ours | files.keys():
        _check_place(folder, name, is_ours=name in ours)
    # First the names: after a kill in between, the next export knows every file.
    _write_manifest(folder, ours | files.keys())
    changed = sum(_replace(folder / name, body) for name, body in files.items())
    gone = sorted(ours - files.keys())
    for name in gone:
        (folder / name).unlink(missing_ok=True)
        with suppress(OSError):  # it has other files
            for parent in (folder / name).relative_to(folder).parents[:-1]:
                (folder / parent).rmdir()
    _write_manifest(folder, set(files))
    return Written(len(files), changed, len(gone))


def _check_place(folder: Path, name: str, *, is_ours: bool) -> None:
    path = folder / name
    for parent in path.relative_to(folder).parents[:-1]:
        if (folder / parent).is_symlink() or ((folder / parent).exists() and not (folder / parent).is_dir()):
            raise FaultError(f"{folder / parent} is not a folder of this command; remove it, or choose another folder")
    if os.path.lexists(path) and not is_ours:
        raise FaultError(f"{path} was not written by this command; remove it, or choose another folder")


def _replace(path: Path, body: bytes) -> bool:
    """Replace the file at once, where it has another content. Returns whether it had."""
    with suppress(OSError):
        if not path.is_symlink() and path.read_bytes() == body:
            return False
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f"{_PART}*{_PART_END}"):
        left.unlink()  # of an export that was killed
    descriptor, part = tempfile.mkstemp(_PART_END, _PART, path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(body)
            file.flush()
            os.fchmod(descriptor, 0o666 & ~_umask())
            os.fsync(descriptor)
        os.replace(part, path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
    return True


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _read_manifest(folder: Path) -> set[str]:
    path = folder / MANIFEST
    if not os.path.lexists(path):
        return set()
    try:
        names = json.loads(path.read_text("utf-8"))["files"]
        return {name for name in names if _NAME.fullmatch(name)}
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        raise FaultError(
            f"{path} cannot be read as the list of an export; remove it, or choose another folder"
        ) from None


def _write_manifest(folder: Path, names: set[str]) -> None:
    _replace(folder / MANIFEST, json.dumps({"files": sorted(names)}, indent=1).encode())
