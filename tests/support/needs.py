"""What a test needs of the machine: where it is missing the test is skipped by name, and in CI it fails."""

from __future__ import annotations

import asyncio
import os
import socket
import sys

import pytest


def need(present: object, what: str) -> None:
    """Continue only if `present` is true; `what` names the missing thing, such as `nginx (Debian: nginx-light)`."""
    if present:
        return
    reason = f"{what} is missing here"
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}, and CI=true allows no skip for that")
    pytest.skip(reason)


def need_ipv6() -> None:
    """Continue only if the loopback has an address of IPv6, which most containers lack."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
        is_there = True
    except OSError:
        is_there = False
    need(is_there, "::1, the address of the loopback in IPv6,")


async def package_index_answers() -> bool:
    """Whether pip can install something that is not here yet."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-deps"),
        *("--no-cache-dir", "--retries", "0", "--timeout", "15", "hatchling"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    return await process.wait() == 0
