"""Reads the services of a compose file: names, ports and health checks, as far as the file shows them.

The forms are those of the Compose specification, `ports`, `expose` and `healthcheck` of
https://github.com/compose-spec/compose-spec/blob/main/05-services.md. Variables have the values of the environment and
of `.env`, else the defaults in the file. Several documents of one file are merged as Compose does. Additions by other
files (`include`, `extends`, an override, the HEALTHCHECK of an image) are not read.

YAML is read as Compose does: YAML 1.2 with the tags `!reset` and `!override` of the Compose specification. PyYAML alone reads
YAML 1.1, where `22:22` is the number 1342, and `on` and `no` are true and false. PyYAML is an extra of the package.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

import yaml

from tentaculo.cli.truth.compose_variables import ComposeError, Variables, substitute

_RESET: Final = object()
"""The value of a key that `!reset` removes."""


class _Override:
    """A value that replaces the one of an earlier document, instead of being merged with it."""

    def __init__(self, value: Any) -> None:
        self.value = value


_INTEGER = re.compile(r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0o?[0-7_]+|[1-9][0-9_]*|0)")
_LEADING_ZERO = re.compile(r"\A([-+]?)0(?=[0-7]+\Z)")


def _plain_value(loader: _ComposeLoader, suffix: str, node: yaml.Node) -> Any:
    """The value below a tag that is not one of YAML's."""
    if suffix == "reset":
        return _RESET
    if suffix == "override":
        return _Override(_untagged(loader, node))
    return _untagged(loader, node)


def _untagged(loader: _ComposeLoader, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    tag = loader.resolve(yaml.ScalarNode, node.value, (not node.style, bool(node.style)))
    return loader.yaml_constructors[tag](loader, node)


def _integer(loader: _ComposeLoader, node: yaml.ScalarNode) -> int | str:
    text = str(loader.construct_scalar(node))
    try:
        return int(_LEADING_ZERO.sub(r"\g<1>0o", text.replace("_", "")), 0)
    except ValueError:
        return text


def _resolvers() -> dict[str | None, list[tuple[str, re.Pattern[str]]]]:
    null = re.compile(r"(?:~|null|Null|NULL|)")
    flag = re.compile(r"(?:true|True|TRUE|false|False|FALSE)")
    found: dict[str | None, list[tuple[str, re.Pattern[str]]]] = {
        "<": [("tag:yaml.org,2002:merge", re.compile("<<"))],
        "": [("tag:yaml.org,2002:null", null)],
    }
    for tag, pattern, first in (("null", null, "~nN"), ("bool", flag, "tTfF"), ("int", _INTEGER, "-+0123456789")):
        for letter in first:
            found.setdefault(letter, []).append((f"tag:yaml.org,2002:{tag}", re.compile(f"(?:{pattern.pattern})$")))
    return found


class _ComposeLoader(yaml.SafeLoader):  # type: ignore[misc] # PyYAML has no types
    """Makes plain values only, as `SafeLoader` does."""

    yaml_implicit_resolvers = _resolvers()
    yaml_constructors: ClassVar = {**yaml.SafeLoader.yaml_constructors, "tag:yaml.org,2002:int": _integer}
    yaml_multi_constructors: ClassVar = {"!": _plain_value}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        if isinstance(node, yaml.MappingNode):
            self.flatten_mapping(node)
            for key, _ in node.value:
                # A key is text: a service may be called `on` or 007.
                if isinstance(key, yaml.ScalarNode):
                    key.tag = "tag:yaml.org,2002:str"
        return dict(super().construct_mapping(node, deep=deep))


def parse(text: bytes) -> Any:
    """The value of the documents in `text`, merged.

    Raises `yaml.YAMLError`, and `ValueError` or `RecursionError` for an invalid value.
    """
    merged: Any = None
    for document in yaml.load_all(text, Loader=_ComposeLoader):
        merged = document if merged is None else _merge(merged, document)
    return _without_marks(merged)


_REPLACED = frozenset(("command", "entrypoint", "test"))
"""Keys whose lists replace those of an earlier document."""
_NAMED_LISTS = frozenset(("environment", "labels", "networks", "depends_on"))
"""Keys whose lists name members, as their mappings do."""


def _merge(base: Any, other: Any, key: str = "") -> Any:
    """The value of `key` in two documents, of which `other` comes later."""
    if other is None:
        return base
    if key in _NAMED_LISTS and type(base) is not type(other):
        base, other = _named(base), _named(other)
    if isinstance(base, dict) and isinstance(other, dict):
        merged = dict(base)
        for name, value in other.items():
            merged[name] = _merge(base[name], value, name) if name in base else value
        return merged
    if isinstance(base, list) and isinstance(other, list) and key not in _REPLACED:
        return [*base, *other]
    return other


def _named(value: Any) -> Any:
    """A list of names, or of `NAME=value`, as a mapping."""
    if not isinstance(value, list):
        return value
    pairs = (str(entry).partition("=") for entry in value)
    return {name: text if equals else None for name, equals, text in pairs}


def _without_marks(value: Any) -> Any:
    """`value` without what was reset, and with what replaced it."""
    if isinstance(value, _Override):
        return _without_marks(value.value)
    if isinstance(value, dict):
        return {name: _without_marks(one) for name, one in value.items() if one is not _RESET}
    if isinstance(value, list):
        return [_without_marks(one) for one in value if one is not _RESET]
    return None if value is _RESET else value


_READ = ("container_name", "expose", "healthcheck", "hostname", "networks", "ports")
"""Keys of a service that are read; a variable elsewhere may be missing."""
_ADDRESS = re.compile(r"https?://[^\s\"'`|;<>()]+")
_PORTS = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")
_LAST_PORT = 65535
_MOST_PORTS = 256


@dataclass(frozen=True, slots=True)
class ComposeHealthcheck:
    """Target of a health check."""

    port: int | None
    path: str

    def __str__(self) -> str:
        return self.path if self.port is None else f":{self.port}{self.path}"


@dataclass(frozen=True, slots=True)
class ComposeService:
    """One service of a compose file."""

    name: str
    hosts: frozenset[str]
    """Host names of the service for other containers."""
    inner: frozenset[int]
    """TCP ports that the file declares. The service may listen on others too."""
    published: Mapping[int, int]
    """Port of the host → port of the container."""
    check: ComposeHealthcheck | None
    """None if there is no health check, or one without a URL."""
    is_unchecked: bool
    """Whether the file has no health check for the service, or disables it."""


def read(document: object, variables: Variables | None = None) -> dict[str, ComposeService]:
    """The services of a compose file that was parsed as YAML. Raises `ComposeError`."""
    services = document.get("services") if isinstance(document, Mapping) else None
    if not isinstance(services, Mapping):
        raise ComposeError("it has no services")
    return {str(name): _declared(str(name), service, variables or {}) for name, service in services.items()}


def _declared(name: str, whole: object, variables: Variables) -> ComposeService:
    if not isinstance(whole, Mapping):
        raise ComposeError(f"services.{name} is no table")
    try:
        service = {key: _substituted(whole[key], variables) for key in _READ if key in whole}
        address = substitute(_environment(whole).get("HEALTHCHECK_URL", ""), variables)
    except ComposeError as error:
        raise ComposeError(f"services.{name}: {error}") from None
    inner: set[int] = set()
    published: dict[int, int] = {}
    for port in _list(service.get("expose")):
        inner.update(_span(_plain(port).partition("/")[0]))
    for port in _list(service.get("ports")):
        for host, container in _mapping(port):
            inner.add(container)
            if host is not None:
                published[host] = container
    check, is_unchecked = _check(service, address)
    return ComposeService(name, frozenset(_hosts(name, service)), frozenset(inner), published, check, is_unchecked)


def _hosts(name: str, service: Mapping[Any, Any]) -> Iterator[str]:
    yield name
    yield from (_plain(service[key]) for key in ("container_name", "hostname") if service.get(key))
    networks = service.get("networks")
    for network in networks.values() if isinstance(networks, Mapping) else ():
        if isinstance(network, Mapping):
            yield from map(_plain, _list(network.get("aliases")))


def _mapping(port: object) -> Iterator[tuple[int | None, int]]:
    """The pairs of host and container port in one entry of `ports`."""
    if isinstance(port, Mapping):
        host, container = _plain(port.get("published", "")), _plain(port.get("target", ""))
        protocol = _plain(port.get("protocol", "tcp"))
    else:
        # [address:][host:]container[/protocol]; an IPv6 address has brackets.
        rest, _, protocol = _plain(port).partition("/")
        address, _, container = rest.rpartition(":")
        host = address.rpartition(":")[2]
    if protocol not in ("", "tcp"):
        return
    inside, outside = _span(container), _span(host)
    for place, one in enumerate(inside):
        yield (outside[place] if len(outside) == len(inside) else None), one


def _span(text: str) -> list[int]:
    """The ports of `8000` or `8000-8003`; empty for other text and for a very long range."""
    found = _PORTS.fullmatch(text.strip())
    if found is None:
        return []
    first, last = int(found[1]), int(found[2] or found[1])
    return list(range(first, last + 1)) if last <= _LAST_PORT and last - first < _MOST_PORTS else []


def _check(service: Mapping[Any, Any], address: str) -> tuple[ComposeHealthcheck | None, bool]:
    """Target of the health check, and whether there is none. `address` is the one in the environment of the service."""
    check = service.get("healthcheck")
    test = check.get("test") if isinstance(check, Mapping) else None
    words = [_plain(word) for word in (test if isinstance(test, list) else [test] if test else [])]
    if (isinstance(check, Mapping) and check.get("disable") is True) or words[:1] == ["NONE"]:
        return None, True
    text = " ".join(words) or address
    found = _ADDRESS.search(text)
    if found is None:
        return None, not text
    try:
        parts = urlsplit(found[0])
        return ComposeHealthcheck(parts.port, parts.path or "/"), False
    except ValueError:
        return None, False


def _environment(service: Mapping[Any, Any]) -> dict[str, str]:
    """Variables of a service. The image of Tentáculo Link has the URL of its health check in one."""
    stated = service.get("environment")
    if isinstance(stated, Mapping):
        return {str(name): _plain(value) for name, value in stated.items() if value is not None}
    pairs = (_plain(line).partition("=") for line in _list(stated))
    return {name: value for name, _, value in pairs}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _plain(value: object) -> str:
    """A scalar as text."""
    return str(value) if isinstance(value, str | int) else ""


def _substituted(value: Any, variables: Variables) -> Any:
    """`value` with the values of the variables in all its texts."""
    if isinstance(value, str):
        return substitute(value, variables)
    if isinstance(value, Mapping):
        return {key: _substituted(one, variables) for key, one in value.items()}
    if isinstance(value, list):
        return [_substituted(one, variables) for one in value]
    return value
