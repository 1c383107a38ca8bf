from __future__ import annotations

import pytest

from tentaculo.cli.check import refused_channels, summarise
from tests.support.config import SECRET, LoadText


def test_a_summary_shows_services_routes_and_warnings_and_no_secret(load_text: LoadText) -> None:
    loaded = load_text(
        f"""
        [services.madre]
        url = "http://h:1"
        token = "{SECRET}"
        aliases = ["mother"]
        routes = [{{ prefix = "/m", strip = true }}, {{ prefix = "/", host = "x.y", auth = "none", timeout = 5 }}]
        [services.off]
        urls = ["http://h:2", "http://h:3"]
        depends_on = ["madre"]
        enabled = false
        off_reason = "resting"
        [[maintenance]]
        services = ["off"]
        reason = "a new disk"
        starts = 2026-12-01T02:00:00
        ends = 2026-12-01T04:30:00
        zone = "Europe/Madrid"
        [[maintenance]]
        services = ["*"]
        at = "23:30-01:00"
        days = ["sat", "sun"]
        [alerts]
        page = "https://status.example.org"
        [alerts.webhooks.duty]
        url = "https://h/{SECRET}"
        secrets = ["whsec_{"A" * 32}"]
        [alerts.apprise]
        phone = "tgram://{SECRET}/chat"
        """,
        {"TENTACULO_TOKEN": SECRET, "TENTACULO_NOTHING": SECRET},
    )
    text = "\n".join(summarise(loaded))
    assert text.startswith(f"{loaded.path} is valid: 2 services, 2 routes\n")
    assert "madre, also mother at http://h:1\n" in text
    assert "  /m                               as /\n" in text
    assert "  x.y/                             as it is, 5 s, open without a token\n" in text
    assert "off at http://h:2, http://h:3, depends on madre (resting)" in text
    assert "warning: TENTACULO_NOTHING is not the name of a key and is ignored" in text.splitlines()
    assert "maintenance of off: a new disk, from 2026-12-01 02:00+01:00 to 2026-12-01 04:30+01:00\n" in text
    assert "maintenance of every service: planned maintenance, 23:30-01:00 UTC, sat, sun\n" in text
    assert "alerts by webhooks: duty\nalerts by Apprise: phone\n" in text
    assert "whsec_" not in text
    assert SECRET not in text


def test_a_summary_names_the_services_that_share_the_origin_of_the_status_page(load_text: LoadText) -> None:
    text = """
        [server]
        hosts = ["gate.example"]
        [services.api]
        url = "http://h:1"
        routes = [{ prefix = "/api" }]
        [services.web]
        url = "http://h:2"
        routes = [{ prefix = "/web", auth = "none" }, { prefix = "/", host = "web.example", auth = "none" }]
        [services.named]
        url = "http://h:3"
        routes = [{ prefix = "/n", host = "gate.example", auth = "none" }]
        [services.apart]
        url = "http://h:4"
        routes = [{ prefix = "/", host = "apart.example", auth = "none" }]
        [services.inner]
        url = "http://h:5"
    """
    lines = [*summarise(load_text(text))]
    assert "on the host of the status page, and so of its origin for a browser: api, web, named" in lines
    (warned,) = [line for line in lines if "opens without a token" in line]
    assert warned.startswith("  a page of web, named opens without a token, and can do there")
    without_tokens = [*summarise(load_text(text + "\n[auth]\nenabled = false"))]
    assert not [line for line in without_tokens if "status page" in line]


def test_a_summary_shows_how_many_clients_the_descriptors_allow(load_text: LoadText) -> None:
    lines = [*summarise(load_text("[limits]\nconnections = 7"))]
    assert "7 client connections at once for each process, by the limits of this shell" in lines


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
def test_apprise_addresses_are_tried(load_text: LoadText) -> None:
    loaded = load_text(
        f"""
        [alerts.apprise]
        good = "json://127.0.0.1/{SECRET}"
        unknown = "nosuchkind://{SECRET}"
        incomplete = "tgram://x"
        """
    )
    assert [*map(str, refused_channels(loaded))] == [
        "alerts.apprise.unknown: is not an address that Apprise can use",
        "alerts.apprise.incomplete: is not an address that Apprise can use",
    ]
    assert [*refused_channels(load_text("[alerts.apprise]\ngood = 'json://127.0.0.1/x'"))] == []
