"""The image's HEALTHCHECK: exit code 0 when the status of the gateway's own /livez is 200, else 1 with the reason.

The address comes from the configuration that the gateway itself reads: the first file that exists of TENTACULO_CONFIG,
the image's own and ./tentaculo.toml, with TENTACULO_* over it. Where that has got faults, which change nothing in a
gateway that runs, it is the address of the last check. HEALTHCHECK_URL replaces it, for a service that runs from
the same image; a service on this machine is sent the token too, as some ask for it on their health path.

`http.client` connects directly, whatever HTTP_PROXY says, and follows no redirect: the token stays in the container.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from stat import S_ISREG
from tempfile import gettempdir
from urllib.parse import urlsplit

IMAGE_CONFIG = Path("/etc/tentaculo/tentaculo.toml")
LAST_URL = Path(gettempdir(), "tentaculo-healthcheck-url")
"""Has the gateway's address of the last check that found it healthy."""
TIMEOUT = 4.0
"""Seconds for connecting, and again for the response."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def own_url() -> str:
    """The gateway's /livez, by its configuration. Raises `ValueError` where that has faults, and had at every check."""
    if not any((Path(folder or ".") / "tentaculo").is_dir() for folder in sys.path):
        # Run from a checkout, where the package is not installed.
        sys.path.append(str(Path(__file__).resolve().parents[1]))
    from tentaculo.config.errors import ConfigError
    from tentaculo.config.loader import load_usable
    from tentaculo.net.tcp import local_url

    named = os.environ.get("TENTACULO_CONFIG")
    try:
        server = load_usable(IMAGE_CONFIG if not named and IMAGE_CONFIG.exists() else None).config.server
    except ConfigError as error:
        try:
            with open(_own_file(os.O_RDONLY), encoding="utf-8") as file:
                return file.read()
        except OSError:
            raise ValueError(str(error)) from error
    return f"{local_url(*server.addresses[0])}/livez"


def _own_file(flags: int) -> int:
    """The descriptor of `LAST_URL`, which stands in a folder that all users share. Raises `OSError`.

    So it does where others can have made or changed the file: they could send the check anywhere.
    """
    descriptor = os.open(LAST_URL, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    found = os.fstat(descriptor)
    is_own = S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and found.st_nlink == 1
    if not is_own or found.st_mode & 0o022:
        os.close(descriptor)
        raise PermissionError(f"{LAST_URL} is not this user's alone")
    return descriptor


def status_of(url: str, token: str) -> int:
    """The status of the response to GET `url`. Raises `OSError`, `HTTPException` and `ValueError`."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"{url} is not an http:// address")
    connection = HTTPConnection(parts.hostname, parts.port or 80, timeout=TIMEOUT)
    headers = {"X-VX11-Token": token} if token and parts.hostname in LOOPBACK else {}
    try:
        connection.request("GET", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


def main() -> str | int:
    """The exit status: 0, or the reason for 1."""
    try:
        named = os.environ.get("HEALTHCHECK_URL")
        url = named or own_url()
        # The gateway's /livez requires no token, so it is sent none.
        status = status_of(url, os.environ.get("TENTACULO_TOKEN", "") if named else "")
    except (OSError, HTTPException, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    if status != 200:
        return f"its status is {status}"
    if not named:
        # Nothing can be written there, or the file is another's.
        with suppress(OSError), open(_own_file(os.O_WRONLY | os.O_CREAT), "w", encoding="utf-8") as file:
            file.truncate()
            file.write(url)
    return 0


if __name__ == "__main__":
    sys.exit(main())
