from __future__ import annotations

import pytest
from aiohttp import web

from tentaculo.server.native_paths import NativePaths


async def answer(request: web.Request) -> web.Response:
    return web.Response()


@pytest.mark.parametrize(
    ("path", "is_own"),
    [
        ("/health", True),
        ("/healthz", False),
        ("/vx11/incidents", True),
        ("/vx11/incidents/7", True),
        ("/vx11/incidents/7/notes", True),
        ("/vx11/incidents/7/anything", True),
        ("/vx11/incidentsx", False),
        ("/vx11", False),
    ],
)
def test_a_path_or_what_lies_below_a_changing_part(path: str, is_own: bool) -> None:
    app = web.Application()
    app.router.add_get("/health", answer)
    app.router.add_get("/vx11/incidents", answer)
    app.router.add_get("/vx11/incidents/{id}", answer)
    app.router.add_post("/vx11/incidents/{id}/notes", answer)
    own = NativePaths.of(app)
    assert (path in own.paths or path.startswith(own.trees)) is is_own


def test_an_application_without_changing_parts_has_no_trees() -> None:
    app = web.Application()
    app.router.add_get("/health", answer)
    assert not "/anything".startswith(NativePaths.of(app).trees)
