"""What a host name says by its form: whether it can be one that an attacker has registered."""

from __future__ import annotations

from ipaddress import ip_address


def is_address(name: str) -> bool:
    """Whether `name`, a host without a port, is an IP address; IPv6 in brackets or without."""
    if not name or (name[0] != "[" and not name[-1].isdigit() and ":" not in name):
        return False
    try:
        ip_address(name.removeprefix("[").removesuffix("]").partition("%")[0])
    except ValueError:
        return False
    return True


def is_local(name: str) -> bool:
    """Whether `name` is an IP address, `localhost` or a name without a dot, which no one can register."""
    return "." not in name.strip(".") or is_address(name)
