"""aiohttp's private names: each is there, is what this gateway takes it for, and is known to one module only."""

from __future__ import annotations

import ast
import asyncio
import inspect
from types import FunctionType, MemberDescriptorType

import pytest
from aiohttp import web, web_protocol

from tentaculo.server import aiohttp_handler
from tentaculo.server.aiohttp_handler import PRIVATE_NAMES, AiohttpHandler
from tests.support.gateway_process import ROOT

METHODS = {"_pause_transport_reading", "_resume_transport_reading", "_drain_helper", "_process_keepalive"}
MODULE = ROOT / "tentaculo" / "server" / "aiohttp_handler.py"
PUBLIC = [name for name, value in vars(AiohttpHandler).items() if isinstance(value, MemberDescriptorType)]


@pytest.mark.parametrize("name", PRIVATE_NAMES)
def test_aiohttp_has_the_private_name(name: str) -> None:
    found = inspect.getattr_static(web.RequestHandler, name, None)
    wanted = FunctionType if name in METHODS else MemberDescriptorType
    assert isinstance(found, wanted), f"aiohttp changed RequestHandler.{name}: it is {found!r}"


def test_aiohttp_has_the_parsers_error() -> None:
    error = ValueError("x")
    message, body = aiohttp_handler.parser_error(400, error)
    assert getattr(web_protocol, "_ErrInfo", None) is type(message), "aiohttp changed web_protocol._ErrInfo"
    assert (message.status, message.exc) == (400, error), "aiohttp changed the members of web_protocol._ErrInfo"
    assert body.is_eof()


def test_the_list_is_what_the_module_uses() -> None:
    attributes = {node.attr for node in ast.walk(ast.parse(MODULE.read_text())) if isinstance(node, ast.Attribute)}
    assert {name for name in attributes if name.startswith("_")} - {"__init__"} == set(PRIVATE_NAMES)


async def test_a_public_name_is_the_slot_itself() -> None:
    handler = AiohttpHandler(web.Server(_never), loop=asyncio.get_running_loop())
    for name in PUBLIC:
        slot = vars(AiohttpHandler)[name]
        assert slot.__objclass__ in web.RequestHandler.__mro__
        assert getattr(handler, name) is getattr(handler, slot.__name__)
    handler.request_count = 7
    assert handler._request_count == 7
    assert len(PUBLIC) == len(PRIVATE_NAMES) - len(METHODS) - len({"_keepalive_handle"})


async def _never(request: web.BaseRequest) -> web.StreamResponse:
    raise AssertionError


@pytest.mark.thorough
def test_no_other_module_knows_a_private_name_of_aiohttp() -> None:
    found = []
    for path in sorted((ROOT / "tentaculo").rglob("*.py")):
        if path == MODULE:
            continue
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("aiohttp"):
                found += [(path.name, alias.name) for alias in node.names if alias.name.startswith("_")]
        if path.name in ("connection.py", "fast_path.py", "request_receiver.py") and path.parent.name == "server":
            attributes = (node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute))
            found += [(path.name, name) for name in attributes if name in PRIVATE_NAMES]
    assert found == []
