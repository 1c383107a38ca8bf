"""Frames of `/ws` and `/events/stream`, compared with the messages of the AsyncAPI document."""

from __future__ import annotations

from typing import Any

import jsonschema

from tentaculo.config.schema import Config
from tentaculo.gateway.api_documents import asyncapi

OWN_MESSAGE = {"Echo", "OtherObject"}
"""Messages that any object is."""


class Messages:
    """The messages of an operation, each with its validator."""

    def __init__(self, operation: str) -> None:
        document = asyncapi(Config.of({}))
        names = [one["$ref"].rpartition("/")[2] for one in document["operations"][operation]["messages"]]
        self._validators = {
            # Draft 7, as AsyncAPI 3.0 says; a reference is looked up from the root.
            name: jsonschema.Draft7Validator(
                {"$ref": f"#/components/messages/{name}/payload", "components": document["components"]}
            )
            for name in names
        }

    @property
    def names(self) -> set[str]:
        """The names of all of them."""
        return set(self._validators)

    def kinds(self, frame: Any) -> set[str]:
        """The names of the messages that `frame` is, but for those that any object is."""
        return {name for name, one in self._validators.items() if name not in OWN_MESSAGE and one.is_valid(frame)}
