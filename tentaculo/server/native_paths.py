"""Which paths are the gateway's own: they win over every route."""

from __future__ import annotations

from typing import NamedTuple

from aiohttp import web


class NativePaths(NamedTuple):
    """A path is the gateway's own if it is one of `paths`, or begins with one of `trees`."""

    paths: frozenset[str]
    trees: tuple[str, ...]

    @classmethod
    def of(cls, app: web.Application) -> NativePaths:
        """Those of an application's routes; the tree of `/a/{id}/b` is `/a/`."""
        paths = {resource.canonical for resource in app.router.resources()}
        changing = {path for path in paths if "{" in path}
        return cls(frozenset(paths - changing), tuple({path[: path.index("{")] for path in changing}))
