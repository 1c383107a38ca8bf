"""Reads YAML as Compose does: YAML 1.2 with the tags `!reset` and `!override` of the Compose specification.

PyYAML reads YAML 1.1, where `22:22` is the number 1342, and `on` and `no` are true and false. Needs PyYAML.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Final

import yaml

_RESET: Final = object()
"""The value of a key that `!reset` removes."""
_INTEGER = re.compile(r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0o?[0-7_]+|[1-9][0-9_]*|0)")
_LEADING_ZERO = re.compile(r"\A([-+]?)0(?=[0-7]+\Z)")


def _plain_value(loader: _ComposeLoader, suffix: str, node: yaml.Node) -> Any:
    """The value below a tag that is not one of YAML's. `!override` replaces in a merge of files; this reads one."""
    if suffix == "reset":
        return _RESET
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
        made = super().construct_mapping(node, deep=deep)
        return {key: value for key, value in made.items() if value is not _RESET}

    def construct_sequence(self, node: yaml.SequenceNode, deep: bool = False) -> list[Any]:
        return [value for value in super().construct_sequence(node, deep=deep) if value is not _RESET]


def parse(text: bytes) -> Any:
    """The value of one document. Raises `yaml.YAMLError`, and `ValueError` or `RecursionError` for an invalid value."""
    return yaml.load(text, Loader=_ComposeLoader)  # noqa: S506 - a SafeLoader
