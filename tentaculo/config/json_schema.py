"""The JSON Schema of the configuration, made of the declarations of the keys, for editors that complete TOML."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from tentaculo.config.key_reference import Key, section_of, walk
from tentaculo.config.schema import Config
from tentaculo.config.section import Check, JsonSchema, Parse, Prepare, Section
from tentaculo.config.types import Secret

_TYPES: dict[Any, str] = {str: "string", Path: "string", int: "integer", float: "number", bool: "boolean"}
_NARROWER = {"minimum": max, "exclusiveMinimum": max, "maximum": min, "maxLength": min}


def text() -> str:
    """The schema as a file."""
    return json.dumps(schema(), ensure_ascii=False, indent=2) + "\n"


def schema() -> JsonSchema:
    """The schema of the whole configuration, in the draft that Taplo and Even Better TOML understand.

    It accepts every valid file. Contradictions between keys, and some texts, only `tentaculo check` refuses.
    """
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Configuration of Tentáculo Link",
        **_section_schema(Config),
    }


def _section_schema(section: type[Section]) -> JsonSchema:
    keys = [key for key in walk(section) if len(key.path) == 1]
    found: JsonSchema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {key.path[0]: _key_schema(key) for key in keys},
    }
    required = [key.path[0] for key in keys if key.declared.is_required]
    return {**found, "required": required} if required else found


def _key_schema(key: Key) -> JsonSchema:
    found = {"description": key.description, **_form_schema(key.declared.form)}
    default = key.declared.default
    if isinstance(default, Secret):
        default = default.reveal()
    if isinstance(default, str | int | float):
        found["default"] = default
    return found


def _form_schema(form: Any) -> JsonSchema:
    """The schema of a declared type with its constraints."""
    if get_origin(form) is Annotated:
        return _constrained(*get_args(form))
    form = _without_none(form)
    origin, args = get_origin(form), get_args(form)
    if origin is Annotated:
        return _form_schema(form)
    if origin is Literal:
        return {"type": "string", "enum": list(args)}
    if origin is tuple:
        return {"type": "array", "items": _form_schema(args[0])}
    if origin is dict:
        names = {name: value for name, value in _form_schema(args[0]).items() if name != "type"}
        found: JsonSchema = {"type": "object", "additionalProperties": _form_schema(args[1])}
        return {**found, "propertyNames": names} if names else found
    section = section_of(form)
    return {"type": _TYPES[form]} if section is None else _section_schema(section)


def _without_none(form: Any) -> Any:
    others = [arg for arg in get_args(form) if arg is not type(None)]
    return others[0] if type(None) in get_args(form) and len(others) == 1 else form


def _constrained(form: Any, *constraints: Any) -> JsonSchema:
    parse = next((one for one in constraints if isinstance(one, Parse)), None)
    found = dict(parse.schema) if parse is not None else _form_schema(form)
    for constraint in constraints:
        if isinstance(constraint, Check):
            for keyword, value in _fitting(constraint.schema, found.get("type")).items():
                narrower = _NARROWER.get(keyword)
                found[keyword] = narrower(found[keyword], value) if narrower and keyword in found else value
    for constraint in constraints:
        if isinstance(constraint, Prepare) and constraint.schema:
            found = {"anyOf": [found, constraint.schema]}
    return found


def _fitting(keywords: JsonSchema, kind: str | None) -> JsonSchema:
    """`keywords` without the one of NOT_EMPTY that means another type."""
    strange = {"string": "minItems", "array": "minLength"}.get(kind or "")
    return {keyword: value for keyword, value in keywords.items() if keyword != strange}
