"""No secret of the configuration is shown, and a new key cannot be forgotten."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Annotated, Any, get_args, get_origin

import pytest

from tentaculo.config.key_reference import example_text, walk
from tentaculo.config.masking import MASK, file_keys, is_masked, is_secret, masked, masks_left, restored, secret_keys
from tentaculo.config.merge_patch import Table
from tentaculo.config.section import Parse

SHOWN_TEXTS = {
    "admin.changes_file",
    "alerts.page",
    "alerts.webhooks.*.secrets_file",
    "auth.token_file",
    *(f"auth.tokens.*.{key}" for key in ("hash", "name", "scopes", "created", "expires")),
    "cors.origins",
    "database.durability",
    "events.correlate",
    "limits.own_paths.*.per",
    "limits.own_paths.*.rate",
    "limits.routes.*.per",
    "limits.routes.*.rate",
    "log.format",
    "log.level",
    "maintenance.*.at",
    "maintenance.*.days",
    "maintenance.*.ends",
    "maintenance.*.reason",
    "maintenance.*.services",
    "maintenance.*.starts",
    "maintenance.*.zone",
    "page.title",
    "page.zone",
    "server.allow",
    "server.deny",
    "server.host",
    "server.hosts",
    "server.instance",
    "server.listen",
    "server.trusted_proxies",
    "services.*.about",
    "services.*.aliases",
    "services.*.concurrency",
    "services.*.depends_on",
    "services.*.enabled_env",
    "services.*.group",
    "services.*.health",
    "services.*.host",
    "services.*.off_reason",
    "services.*.owner",
    "services.*.policy",
    "services.*.probe.contains",
    "services.*.probe.kind",
    "services.*.probe.matches",
    "services.*.probe.method",
    "services.*.probe.prefer",
    "services.*.probe.require",
    "services.*.probe.status",
    "services.*.routes.*.allow",
    "services.*.routes.*.auth",
    "services.*.routes.*.breaker_statuses",
    "services.*.routes.*.deny",
    "services.*.routes.*.host",
    "services.*.routes.*.limits.*.per",
    "services.*.routes.*.limits.*.rate",
    "services.*.routes.*.prefix",
    "services.*.routes.*.remove_headers",
    "services.*.routes.*.remove_response_headers",
    "services.*.routes.*.to",
    "services.*.routes.*.upgrades",
    "services.*.runbook",
    "services.*.tls_server_name",
    "services.*.token_file",
    "services.*.url",
    "services.*.urls",
}
"""Keys with text whose values are shown. A key that is added here shows its value to every reader of the configuration."""


def _has_text(form: Any) -> bool:
    if get_origin(form) is Annotated:
        inner, *notes = get_args(form)
        # What is parsed is text in a file.
        return any(isinstance(note, Parse) for note in notes) or _has_text(inner)
    return form not in (int, float, bool, type(None), Ellipsis) and (
        not get_args(form) or any(map(_has_text, get_args(form)))
    )


def test_each_key_with_text_is_either_a_secret_or_meant_to_be_shown() -> None:
    undecided = {
        ".".join(key.path)
        for key in walk()
        if not key.is_section and not is_secret(key) and _has_text(key.declared.form)
    }
    # The keys of a group of targets are words and pointers into bodies.
    undecided = {name for name in undecided if ".rotation." not in name}
    assert undecided - SHOWN_TEXTS == set(), "is it a secret? then say so in its declaration: secret=True"
    assert SHOWN_TEXTS & {".".join(path) for path in secret_keys()} == set()


def test_what_its_name_calls_a_secret_is_one() -> None:
    for key in walk():
        if re.search(r"password|passphrase|api_key|_key$|secret|credential", key.path[-1]):
            assert is_secret(key) or key.path in file_keys(), key.path


def test_every_secret_of_the_example_is_masked() -> None:
    tables = tomllib.loads(re.sub(r"(?m)^#(?![ :]|$)", "", example_text()))
    shown = json.dumps(masked(tables), default=str)
    for secret in ("Basic dXNlcjpwYXNz", "a-token-of-its-own", "whsec_", "example.org/hooks", "tgram://", "sqlite:///"):
        assert secret in json.dumps(tables, default=str), secret
        assert secret not in shown, secret


def service(**keys: Any) -> Table:
    return {"services": {"madre": {"url": "http://h", **keys}}}


def test_only_the_values_are_masked() -> None:
    tables = service(token="t", routes=[{"prefix": "/a", "set_headers": {"Authorization": "Basic x"}}])
    assert masked(tables) == service(token=MASK, routes=[{"prefix": "/a", "set_headers": {"Authorization": MASK}}])
    assert masked(service(token="")) == service(token="")
    assert masked({"alerts": {"webhooks": {"ops": {"url": "u", "secrets": ["a", "b"], "timeout": 3}}}}) == {
        "alerts": {"webhooks": {"ops": {"url": MASK, "secrets": [MASK, MASK], "timeout": 3}}}
    }
    # A value of the wrong type is no way out.
    assert masked(service(token={"a": ["b"]})) == service(token={"a": [MASK]})


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (("services", "madre", "token"), True),
        (("services", "token", "url"), False),
        (("services", "madre", "routes", 0, "set_headers", "X"), True),
        (("alerts", "apprise", "phone"), True),
        (("services",), False),
        (("nothing", "token"), False),
    ],
)
def test_which_places_are_masked(place: tuple[str | int, ...], expected: bool) -> None:
    assert is_masked(place) is expected


def test_what_was_read_can_be_sent_back() -> None:
    routes = [
        {"prefix": "/a", "set_headers": {"Authorization": "one"}},
        {"prefix": "/b", "set_headers": {"Authorization": "two"}},
    ]
    tables = service(token="t", routes=routes)
    shown = masked(tables)
    assert restored(shown, tables) == tables
    # A route is recognised by what it takes, so that its secret goes to no other one.
    shown["services"]["madre"]["routes"].reverse()
    assert restored(shown, tables)["services"]["madre"]["routes"] == [*reversed(routes)]
    shown["services"]["madre"]["routes"][0]["prefix"] = "/c"
    found = restored(shown, tables)
    assert [*masks_left(found)] == [("services", "madre", "routes", 0, "set_headers", "Authorization")]


def test_a_mask_at_a_place_without_a_secret_stays() -> None:
    new = service(token=MASK, about=MASK)
    assert restored(new, service()) == new
    assert [*masks_left(new)] == [("services", "madre", "token")]
