"""The files of a configuration, of which any may be something else by now: a pipe, a device, a link, a file without end."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

MOST_BYTES = 32 * 1024 * 1024
"""Largest file that is read. A configuration of 10,000 services has a tenth of it."""
_MODE = stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IWGRP
"""What the mode of a file that is replaced may allow."""
_DESCRIPTORS = (Path("/dev/fd"), Path("/proc/self/fd"))
_INPUT = Path("/dev/stdin")


class FileTooLargeError(OSError):
    """A file has more bytes than are read."""

    def __init__(self, most: int) -> None:
        super().__init__(errno.EFBIG, f"it has more than {most} bytes")


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """The bytes of a file. Raises OSError, also for a file of more than `most` bytes, and for a named pipe.

    Nobody may ever write into a pipe: the thread that reads it could not be ended, and neither could the process. The
    pipe of a shell's `<(command)` is read to its end.
    """
    # Not os.fdopen: it leaves the descriptor of a folder open.
    with open(path, "rb", opener=_open_without_waiting) as file:
        if stat.S_ISFIFO(os.fstat(file.fileno()).st_mode):
            if path != _INPUT and path.parent not in _DESCRIPTORS:
                raise OSError(errno.ESPIPE, "it is a pipe")
            os.set_blocking(file.fileno(), True)
        data = file.read(most + 1)
    if data is None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    if len(data) > most:
        raise FileTooLargeError(most)
    return data


def replaceable(path: Path) -> Path:
    """Where the file of `path` is, which is to be replaced in one step. Raises OSError where something else is there.

    Through symbolic links: the link stays, and a program that reads the file by another path sees the change. A device would be
    gone, for the whole machine.
    """
    found = Path(os.path.realpath(path))
    if found.exists() and not found.is_file():
        raise OSError(errno.EINVAL, "it is no regular file")
    return found


SetAccess = Callable[[Path, int], object]
"""Says who may read a file, by its descriptor, that is to replace the one at a path."""


def replace_file(path: Path, data: bytes, set_access: SetAccess | None = None) -> None:
    """Replace a regular file in one step, so that it survives a power cut. Raises OSError, and nothing is changed then.

    Without `set_access` its owner alone can read it.
    """
    # mkstemp makes the file with mode 0600.
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if set_access is not None:
                set_access(path, file.fileno())
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(name)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Without this the new name could be lost although the change was acknowledged.
        os.fsync(folder)
    finally:
        os.close(folder)


def keep_access(path: Path, descriptor: int) -> bool:
    """Give a file the owner, the group and the mode of the one at `path`, which it is to replace; all others have no access.

    An administrator who changes a file of the gateway must not lock out the gateway, which runs as another user. False
    where there is no file.
    """
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return False
    with suppress(OSError):  # EINVAL for a user whom a container does not have
        os.fchown(descriptor, found.st_uid, found.st_gid)
        os.fchmod(descriptor, found.st_mode & _MODE)
    return True


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, with newlines as Python has them. Raises OSError as above, and UnicodeDecodeError.

    A file saved by Notepad begins with a byte order mark, which is no part of the text.
    """
    return read_bytes(path).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
