"""[page], and what is said of a service on the status pages."""

from __future__ import annotations

import zoneinfo

import pytest

from tests.support.config import FaultsOf, LoadText

SERVICE = '[services.hermes]\nurl = "http://127.0.0.1:8003"\n'
ZONE = 'page.zone: is not a time zone such as "UTC" or "Europe/Madrid"'


def test_the_page_and_its_services_have_words_of_their_own(load_text: LoadText) -> None:
    config = load_text(
        '[page]\ntitle = "Casa"\nzone = "Europe/Madrid"\n' + SERVICE + 'about = "Sends mail."\nowner = "ana, ext. 4"\n'
        'group = "Mail"\nrunbook = "https://wiki.example.org/mail?x=1#down"\n'
    ).config
    assert (config.page.title, config.page.zone) == ("Casa", "Europe/Madrid")
    assert str(config.page.time_zone) == "Europe/Madrid"
    hermes = config.services["hermes"]
    assert (hermes.about, hermes.owner, hermes.group) == ("Sends mail.", "ana, ext. 4", "Mail")
    assert hermes.runbook == "https://wiki.example.org/mail?x=1#down"


def test_without_them_the_page_is_in_utc_and_says_no_more(load_text: LoadText) -> None:
    config = load_text(SERVICE).config
    assert (config.page.title, config.page.zone) == (None, "UTC")
    hermes = config.services["hermes"]
    assert {hermes.about, hermes.owner, hermes.group, hermes.runbook} == {None}


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ('title = " "', "page.title: must be a line of text"),
        ('title = "a\\nb"', "page.title: must be a line of text"),
        ('title = "a\\u202eb"', "page.title: must be a line of text"),
        (f'title = "{"x" * 61}"', "page.title: has more than 60 characters"),
        ('zone = "Madrid"', ZONE),
        ('zone = "/etc/passwd"', ZONE),
        ('zone = ""', ZONE),
        ('zone = "a\\u0000b"', ZONE),
        ('zones = "UTC"', 'page.zones: unknown key; did you mean "zone"?'),
    ],
)
def test_a_page_that_cannot_be(faults_of: FaultsOf, keys: str, fault: str) -> None:
    assert faults_of(f"[page]\n{keys}\n{SERVICE}") == [fault]


ADDRESS = "services.hermes.runbook: must be an http:// or https:// address of a page"


@pytest.mark.parametrize(
    ("key", "fault"),
    [
        (f'about = "{"x" * 301}"', "services.hermes.about: has more than 300 characters"),
        (f'owner = "{"x" * 101}"', "services.hermes.owner: has more than 100 characters"),
        (f'group = "{"x" * 61}"', "services.hermes.group: has more than 60 characters"),
        ('group = ""', "services.hermes.group: must be a line of text"),
        ('owner = "a\\u001b[31m"', "services.hermes.owner: must be a line of text"),
        ('runbook = "javascript:alert(1)"', ADDRESS),
        ('runbook = "//wiki.example.org"', ADDRESS),
        ('runbook = "https://"', ADDRESS),
        ('runbook = "https://wiki example.org/"', ADDRESS),
        ('runbook = "https://wiki.example.org:99999/"', ADDRESS),
        ('runbook = "https://[::1"', ADDRESS),
        ('runbook = "https://wiki.example.org/\\u202e"', ADDRESS),
        (
            f'runbook = "https://wiki.example.org/{"x" * 2000}"',
            "services.hermes.runbook: has more than 2000 characters",
        ),
        (
            'runbook = "https://ana:secret@wiki.example.org/"',
            "services.hermes.runbook: must not hold a user name or a password: everybody who may open the page sees it",
        ),
    ],
)
def test_a_service_whose_words_cannot_be(faults_of: FaultsOf, key: str, fault: str) -> None:
    assert faults_of(SERVICE + key + "\n") == [fault]


def test_a_system_without_time_zones_is_said(
    faults_of: FaultsOf, load_text: LoadText, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(name: str) -> object:
        raise zoneinfo.ZoneInfoNotFoundError(name)

    monkeypatch.setattr(zoneinfo, "ZoneInfo", none)
    monkeypatch.setattr(zoneinfo, "available_timezones", set)
    assert faults_of(f'[page]\nzone = "Europe/Madrid"\n{SERVICE}') == [
        "page.zone: cannot be found, as this system has no time zones; the package tzdata brings them (pip install tzdata)"
    ]
    assert str(load_text(f'[page]\nzone = "UTC"\n{SERVICE}').config.page.time_zone) == "UTC", "which needs no data"
