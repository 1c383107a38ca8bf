"""The native application on a real socket."""

from tests.support.native_gateway import gateway

__all__ = ["gateway"]
