"""Every native route of a gateway, and the OpenAPI document of them, without a socket."""

from __future__ import annotations

from typing import Any

from tentaculo.config.schema import Config
from tentaculo.gateway.api_documents import openapi
from tentaculo.gateway.gateway import Gateway
from tentaculo.security.cors import CorsPolicy
from tentaculo.server.native_routes import NativeRoute, declared


def native_routes(config: Config | None = None) -> list[NativeRoute]:
    """Those of a gateway with this configuration; without one of a gateway that has no service."""
    config = config or Config.of({})
    return declared(Gateway(config, [])._application(config, CorsPolicy(config.cors), []))


def openapi_document(config: Config | None = None) -> dict[str, Any]:
    """The document of this gateway."""
    config = config or Config.of({})
    return openapi(config, native_routes(config))
