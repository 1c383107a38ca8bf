"""Services for random sequences of changes, whole configurations of them, and what a client sees of one."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tentaculo.config.change_layer import TimedOverride
from tentaculo.model.text import utc_now
from tentaculo.security.tokens import hash_token
from tests.support.configuration_model import ENABLED_VARIABLE, Expected, Model, Service, Services
from tests.support.layered_gateway import ADMIN, write_tables
from tests.support.wire import Request, Response, Upstream, answering, ok, upstream

ORIGIN = "https://page.example"
NAMES = ("fixed", "one", "two")
PREFIXES = ("/a", "/b", "/a/deep", "/c")
CLIENTS = ("caller-one", "caller-two")
"""Tokens that the file may accept."""

places = st.integers(0, 2)
stamps = st.integers(1, 9)


def make_service(
    place: int,
    prefixes: list[str],
    stamp: int,
    token: int | None,
    enabled: bool | None,
    follows: bool,
    depends_on: str | None,
) -> Service:
    """A service whose endpoint is the `place`th; all that can be seen of a request of it has the stamp."""
    routes = [
        {
            "prefix": prefix,
            "set_headers": {"X-Sent": f"{stamp}"},
            "set_response_headers": {"X-Stamp": f"{stamp}"},
            "limits": [{"per": "route", "rate": f"{1000 * stamp}/s"}],
        }
        for prefix in prefixes
    ]
    table: Service = {"url": place, "routes": routes}
    if token is not None:
        table["token"] = f"token-{token}"
    if enabled is not None:
        table["enabled"] = enabled
    if follows:
        table["enabled_env"] = ENABLED_VARIABLE
    if depends_on is not None:
        table["depends_on"] = [depends_on]
    return table


def _services(own: st.SearchStrategy[list[str]]) -> st.SearchStrategy[Service]:
    return st.builds(
        make_service,
        places,
        own,
        stamps,
        st.none() | st.integers(1, 2),
        st.sampled_from([None, None, True, False]),
        st.booleans(),
        st.sampled_from([None, None, "one"]),
    )


any_service = _services(st.lists(st.sampled_from(PREFIXES), min_size=1, max_size=2, unique=True))
files = st.fixed_dictionaries(
    {"fixed": _services(st.just(["/c"]))},
    optional={"one": _services(st.sampled_from([["/a"], ["/a/deep"]])), "two": _services(st.just(["/b"]))},
)
tokens = st.sets(st.sampled_from(CLIENTS)).map(frozenset)
merges = st.fixed_dictionaries(
    {},
    optional={
        "url": places,
        "token": st.sampled_from([None, "token-1", "token-2"]),
        "enabled": st.sampled_from([None, True, False]),
        "enabled_env": st.sampled_from([None, ENABLED_VARIABLE]),
        "depends_on": st.sampled_from([None, ["one"], ["nobody"]]),
    },
)
FAULTY: Mapping[str, Any] = {
    "url": "ftp://h",
    "token": 3,
    "enabled": "perhaps",
    "depends_on": ["nobody"],
    "unheard_of": 1,
    "probe": {"interval": -1},
}
"""Values that no service can have, by key."""


def echoing(place: int) -> AbstractAsyncContextManager[Upstream]:
    """The `place`th endpoint, which responds with what a request has of its generation."""

    def respond(request: Request) -> bytes:
        return ok(f"{place} {request.get('X-VX11-Token')} {request.get('X-Sent')}".encode())

    return upstream(answering(respond))


def write_model(folder: Path, model: Model, services: Services) -> None:
    """Write the configuration file of `model`, with `services` that have the addresses of endpoints."""
    accepted = [{"name": "operator", "hash": hash_token(ADMIN), "scopes": ["admin", "status"]}]
    accepted += [{"name": one, "hash": hash_token(one), "scopes": ["proxy"]} for one in sorted(model.tokens)]
    tables = {
        # A connection stays, however long a slow machine takes until its next request.
        "server": {"port": 0, "grace": 1, "keepalive": 600},
        "limits": {"head_time": 600},
        "database": {"url": f"sqlite:///{folder}/none/tentaculo.db"},
        "auth": {"tokens": accepted},
        "cors": {"origins": [ORIGIN] if model.has_cors else []},
        "services": services,
    }
    write_tables(folder / "tentaculo.toml", tables)


def seen_in(response: Response) -> Expected:
    """What a response shows of the generation it is from."""
    policy = response.get("RateLimit-Policy")
    return Expected(
        response.status,
        response.body.decode() if response.status == 200 else None,
        response.get("X-Stamp"),
        policy.split('"')[1].split(" ")[0] if policy else None,
        response.get("Access-Control-Allow-Origin"),
    )


def is_about(model: Model, overrides: Mapping[str, TimedOverride]) -> bool:
    """Whether the overrides of the model are in force, each for about as many seconds of the wall clock as there."""
    now, expected = utc_now(), model.overrides
    return expected.keys() == overrides.keys() and all(
        abs((one.until - now).total_seconds() - (expected[name].end - model.now)) < 100
        for name, one in overrides.items()
    )
