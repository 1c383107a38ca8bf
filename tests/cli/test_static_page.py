"""A status page as a file."""

from __future__ import annotations

import base64
import re
from hashlib import sha256

import pytest

from tentaculo.cli.static_page import Notice, static_page
from tentaculo.cli.status_export import file_of

COPY = Notice("", "A copy.")
AWAY = Notice("The gateway does not respond.", "It last ran <then>.", "data:,x")
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>a &amp; b is up · Casa</title>
<link id="icon" rel="icon" href="data:,up">
<link rel="alternate" href="/status/incidents.atom">
<link rel="other" href="/else">
<noscript><meta http-equiv="refresh" content="10"></noscript>
<style>p { color: red } </style>
</head>
<body>
<header><nav><a href="/status">Now</a><a href="/status/sign-in">Sign in</a></nav></header>
<main id="live">
<h1>a &amp; b is up&#46;</h1>
<form action="/status"><input id="filter" name="filter"><p>Filter</p></form>
<nav class="groups"><a href="?group=x">x</a></nav>
<svg viewBox="0 0 1 1"><use href="#i-up"/><title>t</title></svg>
<p><a href="/status/services/a?range=24h" title="&quot;>">a</a> <a href="/status/services/a#x">b</a></p>
<a href="https://wiki.example.org/?a=1&amp;b=2" rel="noreferrer">Runbook</a>
<p class="read" id="read">Point at a time.</p>
<span><a class="api" href="/vx11/incidents">JSON</a></span>
</main>
<p><a href="javascript:alert(3)">odd</a></p>
<footer><a href="/metrics">Metrics</a><a href="?range=24h&amp;sort=name">x</a><a href="?range=24h">24 h</a></footer>
<script>alert(1) < 2; "<main>"</script>
</body>
</html>"""


def made(notice: Notice = COPY, address: str = "/status", depth: int = 0) -> tuple[str, list[str]]:
    return static_page(PAGE, address, depth, file_of, notice)


def test_script_forms_and_what_needs_them_are_left_out() -> None:
    text, _ = made()
    for gone in ("script", "alert", "noscript", "refresh", "form", "Filter", "Point at a time", "groups", "JSON"):
        assert gone not in re.sub(r"<meta http-equiv=\"Content.*?>", "", text), gone


def test_links_lead_to_the_other_files() -> None:
    text, links = made()
    assert re.findall(r'href="([^"]*)"', text) == [
        "data:,up",
        "incidents.atom",
        "index.html",
        "#i-up",
        "services/a.html#x",
        "https://wiki.example.org/?a=1&amp;b=2",
        "24h.html",
    ]
    assert links == ["/status/incidents.atom", "/status", "/status/services/a", "/status?range=24h"]
    below, _ = made(address="/status/services/a", depth=1)
    assert '<a href="../services/a.html#x">' in below
    assert '<a href="../index.html">' in below
    assert "24h.html" not in below, "a relative link is one of this page"


def test_a_link_without_a_file_stays_as_text_but_not_in_a_list_of_links() -> None:
    text, _ = made()
    assert '<a title="&quot;&gt;">a</a>' in text
    assert "Sign in" not in text
    assert "Metrics" not in text


def test_everything_else_stays_as_it_is() -> None:
    text, _ = made()
    for kept in (
        "<!doctype html>",
        "<title>a &amp; b is up · Casa</title>",
        "<h1>a &amp; b is up&#46;</h1>",
        '<svg viewBox="0 0 1 1"><use href="#i-up"/><title>t</title></svg>',
        "</html>",
    ):
        assert kept in text


def test_it_says_that_it_is_a_copy_and_does_not_look_live() -> None:
    text, _ = made()
    assert '<main id="live"><section class="hero"><p class="lead">A copy.</p></section>' in text
    assert '<body class="stale">' in text


def test_its_policy_allows_its_style_and_nothing_else() -> None:
    text, _ = made()
    policy = re.findall(r'<head><meta http-equiv="Content-Security-Policy" content="([^"]*)">', text)
    digest = base64.b64encode(sha256(b"p { color: red } ").digest()).decode()
    assert policy == [
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    ]


def test_a_gateway_that_is_away_is_the_headline_title_and_icon() -> None:
    text, _ = made(AWAY)
    assert "<title>The gateway does not respond. a &amp; b is up · Casa</title>" in text
    assert '<link rel="icon" href="data:,x">' in text
    assert re.findall(r"<h1>(.*?)</h1>", text) == ["The gateway does not respond."]
    assert "<h2>a &amp; b is up&#46;</h2>" in text
    assert "It last ran &lt;then&gt;." in text


@pytest.mark.parametrize(
    ("address", "file"),
    [
        ("/status", "index.html"),
        ("/status?range=90d", "90d.html"),
        ("/status?range=../../etc", None),
        ("/status?range=3h&sort=name", None),
        ("/status?range=3h&range=24h", "24h.html"),
        ("/status?range=", None),
        ("/status/services/a-b_C", "services/a-b_C.html"),
        ("/status/services/..", None),
        ("/status/services/a/b", None),
        ("/status/services/a?range=3h", None),
        ("/status/incidents", "incidents.html"),
        ("/status/incidents/17", "incidents/17.html"),
        ("/status/incidents/x", None),
        ("/status/incidents.atom", "incidents.atom"),
        ("/status/api/v2/summary.json", "api/v2/summary.json"),
        ("/status/api/v2/incidents/unresolved.json", "api/v2/incidents/unresolved.json"),
        ("/status/api/v2/../../x.json", None),
        ("/vx11/status", None),
        ("/", None),
    ],
)
def test_only_pages_for_everybody_have_a_file(address: str, file: str | None) -> None:
    assert file_of(address) == file
