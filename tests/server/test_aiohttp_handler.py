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


OTHERS = {("health/probe_client.py", "_sslobj"): "Python 3.11 has the chain of certificates only there"}
"""Private names of other libraries, with the module that uses each and the reason."""
PUBLIC_IN_SPITE_OF_THEIR_NAME = {"_asdict", "_fields", "_make", "_replace"}
"""Those of named tuples, which begin so in order not to be a field's."""


def trees() -> list[tuple[str, ast.Module]]:
    package = ROOT / "tentaculo"
    paths = [path for path in sorted(package.rglob("*.py")) if path != MODULE]
    return [(path.relative_to(package).as_posix(), ast.parse(path.read_text())) for path in paths]


def private_names(tree: ast.Module) -> set[str]:
    """Private names that a module reads of an object, by an attribute or by its name as text."""
    found = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr", "setattr", "delattr"):
            found |= {str(part.value) for part in node.args[1:2] if isinstance(part, ast.Constant)}
    return {name for name in found if name.startswith("_") and not name.startswith("__")}


def own_names(tree: ast.Module) -> set[str]:
    """What a module defines: its classes, functions and values, and the attributes of its own objects."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            found.add(node.attr)
    return found


@pytest.mark.thorough
def test_no_other_module_knows_a_private_name_of_a_library() -> None:
    modules = trees()
    own = {name for _, tree in modules for name in own_names(tree)} | PUBLIC_IN_SPITE_OF_THEIR_NAME
    used = {(file, name) for file, tree in modules for name in private_names(tree) - own}
    for file, tree in modules:
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and not (node.module or "").startswith(("tentaculo", "__future__")):
                used |= {(file, alias.name) for alias in node.names if alias.name.startswith("_")}
        if file in ("server/connection.py", "server/fast_path.py", "server/request_receiver.py"):
            # These are connections of aiohttp's: a name of their own could be one of its.
            used |= {(file, name) for name in private_names(tree) & set(PRIVATE_NAMES)}
    assert used == set(OTHERS), "give it a public name in server/aiohttp_handler.py, or list it with its reason"
