"""The services of the demonstration: those of the contract, each with its own paths."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from tentaculo.demo.services import (
    DemoFault,
    DemoService,
    canned,
    chance,
    chat,
    echoes,
    moment,
    new_id,
    stream,
    text_of,
    upload,
    wait,
)

MADRE = DemoService(
    name="madre",
    port=8001,
    routes=(
        *canned(
            {
                "GET /tasks": {
                    "tasks": [{"id": "task-0001", "state": "done"}, {"id": "task-0002", "state": "running"}]
                },
                "GET /status": {"status": "running", "children": 2, "queue": 0},
                "GET /child": {"children": ["child-0001", "child-0002"]},
                "GET /metrics/{name}": lambda request, _: {"metric": request.match_info["name"], "value": 42},
                "GET /orchestration/{id}": lambda request, _: {"id": request.match_info["id"], "state": "settled"},
                "POST /chat": lambda _, body: {"reply": f"You said: {text_of(body, 'message', '(nothing)')}"},
                "POST /control": lambda _, body: {"accepted": text_of(body, "action", "none")},
                "GET /madre/decisions": {"decisions": [{"id": "decision-0001", "summary": "kept two children"}]},
                "GET /madre/tasks/active": {"tasks": [{"id": "task-0002", "state": "running"}]},
                "GET /madre/task/{id}": lambda request, _: {"id": request.match_info["id"], "state": "running"},
                "POST /madre/task/{id}/cancel": lambda request, _: {
                    "id": request.match_info["id"],
                    "state": "cancelled",
                },
                "POST /madre/chat": lambda _, body: {"reply": f"Heard: {text_of(body, 'message', '(nothing)')}"},
            }
        ),
        *canned(
            {
                "POST /task": lambda _, body: {"id": new_id("task"), "goal": text_of(body, "goal", "none given")},
                "POST /child": lambda _, body: {"id": new_id("child"), "name": text_of(body, "name", "unnamed")},
                "POST /orchestrate": lambda _, body: {
                    "id": new_id("plan"),
                    "goal": text_of(body, "goal", "none given"),
                },
            },
            status=201,
        ),
        web.get("/madre/daughter/{id}/wait", wait),
        *echoes("/echo", "/madre/echo"),
    ),
)

MODELS = ("small", "large")
"""The models of the switch's chat."""
MODEL_SHIFT = 120.0
"""Seconds after which the other one is better."""


def switch_chat(_: web.Request, body: Any) -> Mapping[str, Any]:
    """What the model in `body` says. A failure has the status 200 and the word `partial`, as the real switch has it.

    One of the two succeeds in 19 of 20 chats and the other in 12 of 20; every two minutes they change places.
    """
    model = text_of(body, "model", MODELS[0])
    is_better = MODELS[int(time.monotonic() / MODEL_SHIFT) % 2] == model
    is_success = chance(time.monotonic_ns()) < (0.95 if is_better else 0.6)
    said: dict[str, Any] = {"reply": text_of(body, "message", "")[::-1]} if is_success else {}
    return {
        "provider": "remote" if model == MODELS[1] else "local",
        "model": model,
        "status": "ok" if is_success else "partial",
        "latency_ms": round((40 if model == MODELS[0] else 160) * (0.5 + chance(time.monotonic_ns(), model))),
        **said,
    }


SWITCH = DemoService(
    name="switch",
    port=8002,
    latency=0.02,
    routes=(
        *canned(
            {
                "GET /switch/providers": {
                    "providers": [{"name": "local", "load": 0.2}, {"name": "remote", "load": 0.6}]
                },
                "GET /metrics": {"routed": 1284, "tension": 3},
                "GET /metrics/{name}": lambda request, _: {"metric": request.match_info["name"], "value": 3},
                "POST /switch/route": lambda _, body: {"provider": "local", "prompt": text_of(body, "prompt", "")},
                "POST /switch/chat": switch_chat,
                "POST /switch/shub/route": {"provider": "none", "reason": "shubniggurath is off on purpose"},
            }
        ),
        *echoes("/echo", "/switch/echo"),
    ),
)

HERMES = DemoService(
    name="hermes",
    port=8003,
    guards_health=True,
    fault=DemoFault(every=120, lasts=12, status=500),
    routes=(
        *canned(
            {
                "GET /hermes/commands": {"commands": ["uptime", "date", "whoami"]},
                "POST /hermes/execute": lambda _, body: {
                    "command": text_of(body, "command", "date"),
                    "exit_code": 0,
                    "stdout": f"{moment()}\n",
                },
            }
        ),
        web.post("/waveform", upload),
        web.post("/spectrogram", upload),
        *echoes("/echo", "/hermes/echo"),
    ),
)

HORMIGUERO = DemoService(
    name="hormiguero",
    port=8004,
    routes=(
        *canned(
            {
                "GET /hormiguero/status": {"status": "ok", "ants": 8, "queen": "awake"},
                "GET /hormiguero/colonies": {"colonies": ["north", "south"]},
                "GET /hormiguero/colony/{name}": lambda request, _: {"colony": request.match_info["name"], "ants": 4},
                "GET /scan": {"findings": [], "scanned": 312},
                "POST /scan": lambda _, body: {"scan": new_id("scan"), "target": text_of(body, "target", ".")},
                "GET /report": {"findings": [], "generated_at": "2025-12-16T09:45:00Z"},
                "POST /report": {"accepted": True},
                "GET /queen/{what}": lambda request, _: {"queen": request.match_info["what"], "answer": "granted"},
            }
        ),
        *echoes("/echo", "/hormiguero/colony/north/echo"),
    ),
)

# The same leaf names with two handlers each: at the root they read the query, below /manifestator they read JSON.
MANIFESTATOR = DemoService(
    name="manifestator",
    port=8005,
    health_word="healthy",
    guards_health=True,
    routes=(
        *canned(
            {
                "GET /drift": {"status": "ok", "drift": []},
                "GET /patches": {"patches": []},
                "GET /metrics/{name}": lambda request, _: {"metric": request.match_info["name"], "value": 0},
                **{
                    f"POST /{leaf}": lambda request, _: {"reads": "query", "query": dict(request.query)}
                    for leaf in (
                        *("generate-patch", "validate-patch", "apply-patch", "detect-drift", "repair"),
                        "control",
                    )
                },
                **{
                    f"POST /manifestator/{leaf}": lambda _, body: {"reads": "json", "body": body}
                    for leaf in (
                        *("scan-drift", "generate-patch", "validate-patch", "apply-patch-v2"),
                        *("semantic-validate", "dsl/{step}"),
                    )
                },
            }
        ),
        *echoes("/echo", "/manifestator/echo", "/manifestator/dsl/echo"),
    ),
)

MCP = DemoService(
    name="mcp",
    port=8006,
    routes=(
        *canned(
            {
                "GET /mcp/tools": {"tools": [{"name": "search"}, {"name": "read_file"}, {"name": "summarise"}]},
                "POST /mcp/chat": lambda _, body: {"reply": f"mcp heard: {text_of(body, 'message', '(nothing)')}"},
                "POST /mcp/tools/{name}": lambda request, body: {"tool": request.match_info["name"], "input": body},
            }
        ),
        web.get("/mcp/stream", stream),
        *echoes("/echo", "/mcp/echo"),
    ),
)

SHUBNIGGURATH = DemoService(
    name="shubniggurath",
    port=8007,
    latency=0.05,
    off=True,
    routes=(
        *canned(
            {
                "GET /status": {"status": "ready"},
                "GET /ready": {"ready": True},
                "GET /shub/health": {"status": "ok"},
                "GET /api/{what}": lambda request, _: {"api": request.match_info["what"]},
                "POST /shub/execute": lambda _, body: {
                    "job": new_id("audio"),
                    "action": text_of(body, "action", "none"),
                },
            }
        ),
        web.post("/shub/madre/{what}", upload),
        *echoes("/echo", "/shub/madre/echo"),
    ),
)

SPAWNER = DemoService(
    name="spawner",
    port=8008,
    fault=DemoFault(every=90, lasts=15, delay=1.2),
    routes=(
        *canned(
            {
                "GET /spawn/{id}": lambda request, _: {"id": request.match_info["id"], "state": "alive"},
                "GET /spawner/children": {"children": ["child-0001", "child-0002"]},
            }
        ),
        *canned(
            {"POST /spawn": lambda _, body: {"id": new_id("child"), "name": text_of(body, "name", "unnamed")}},
            status=201,
        ),
        *echoes("/echo", "/spawn/child-0001/echo", "/spawner/echo"),
    ),
)

OPERATOR = DemoService(
    name="operator",
    port=8011,
    latency=0.03,
    routes=(
        *canned(
            {
                "GET /operator/vx11/overview": {"status": "ok", "sessions": 1},
                "GET /operator/sessions": {"sessions": [{"id": "s-0001", "messages": 4}]},
                "POST /operator/chat": lambda _, body: {"reply": f"You said: {text_of(body, 'message', '(nothing)')}"},
                "POST /intent": lambda _, body: {"intent": "chat", "text": text_of(body, "text", "")},
            }
        ),
        web.get("/ws/{session_id}", chat),
        *echoes("/echo", "/operator/echo"),
    ),
)

FLEET = (MADRE, SWITCH, HERMES, HORMIGUERO, MANIFESTATOR, MCP, SHUBNIGGURATH, SPAWNER, OPERATOR)
