"""What can be wrong with [[maintenance]], [incidents] and [alerts]: each fault with its place, and no secret in it."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tentaculo.config.incidents import secret_bytes
from tests.support.config import SECRET, FaultsOf, LoadText

FLEET = '[services.hermes]\nurl = "http://127.0.0.1:8003"\naliases = ["herald"]\n'
KEY = "whsec_" + base64.b64encode(bytes(range(24))).decode()


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ('at = "2:00-4:00"', 'maintenance[0].at: must be two times of day such as "02:00-04:30"'),
        ('at = "02:00-24:00"', 'maintenance[0].at: must be two times of day such as "02:00-04:30"'),
        ('at = "02:00-02:00"', "maintenance[0].at: starts and ends at the same time"),
        ('at = "02:00-04:00"\ndays = []', "maintenance[0].days: must not be empty"),
        (
            'at = "02:00-04:00"\ndays = ["Monday"]',
            "maintenance[0].days[0]: must be one of 'mon', 'tue', 'wed', 'thu', 'fri', 'sat' or 'sun'",
        ),
        (
            'at = "02:00-04:00"\nzone = "Madrid"',
            'maintenance[0].zone: is not a time zone such as "UTC" or "Europe/Madrid"',
        ),
        (
            'at = "02:00-04:00"\nzone = "../../etc/passwd"',
            'maintenance[0].zone: is not a time zone such as "UTC" or "Europe/Madrid"',
        ),
        ("", "maintenance[0]: needs either starts and ends, or at"),
        ('at = "02:00-04:00"\nstarts = 2026-12-01T02:00:00Z', "maintenance[0]: needs either starts and ends, or at"),
        ("starts = 2026-12-01T02:00:00Z", "maintenance[0]: needs both starts and ends"),
        (
            "starts = 2026-12-01T02:00:00Z\nends = 2026-12-01T02:30:00+01:00",
            "maintenance[0]: ends before it starts",
        ),
        (
            "starts = 2026-12-01T02:00:00Z\nends = 9999-12-31T23:59:59-05:00",
            "maintenance[0].ends: must be a time that UTC has too",
        ),
        (
            'starts = 2026-12-01T02:00:00\nends = 9999-12-31T23:59:59\nzone = "America/Bogota"',
            "maintenance[0]: starts or ends at a time that UTC does not have",
        ),
        (
            "starts = 2026-12-01\nends = 2026-12-01T02:30:00",
            "maintenance[0].starts: must be a time such as 2026-12-01T02:00:00Z",
        ),
        (
            'starts = 17\nends = "tomorrow"',
            "maintenance[0].ends: must be a time such as 2026-12-01T02:00:00Z",
        ),
        ('at = "02:00-04:00"\nservices = []', "maintenance[0].services: must not be empty"),
        (
            'at = "02:00-04:00"\nservices = ["hermse"]',
            'maintenance[0].services[0]: is not a service; did you mean "hermes"?',
        ),
        ('at = "02:00-04:00"\nreason = "  "', "maintenance[0].reason: must be a line of text"),
        ('at = "02:00-04:00"\nreasons = "x"', 'maintenance[0].reasons: unknown key; did you mean "reason"?'),
    ],
)
def test_a_plan_that_cannot_be(faults_of: FaultsOf, keys: str, fault: str) -> None:
    services = "" if "services =" in keys else 'services = ["*"]'
    assert fault in faults_of(f"{FLEET}[[maintenance]]\n{services}\n{keys}\n")


def test_a_plan_of_both_kinds_has_its_other_faults_told_too(faults_of: FaultsOf) -> None:
    plan = f'services = ["*"]\nat = "2:00"\nstarts = 2026-12-01T02:00:00Z\nreason = "{"x" * 201}"\n'
    assert faults_of(f"{FLEET}[[maintenance]]\n{plan}") == [
        "maintenance[0]: needs either starts and ends, or at",
        'maintenance[0].at: must be two times of day such as "02:00-04:30"',
        "maintenance[0].reason: has more than 200 characters",
    ]


def test_a_plan_says_for_whom_it_is(faults_of: FaultsOf) -> None:
    assert faults_of(f'{FLEET}[[maintenance]]\nat = "02:00-04:00"\n') == ["maintenance[0].services: is required"]


def test_plans_that_can_be(load_text: LoadText) -> None:
    text = f"""{FLEET}
    [[maintenance]]
    services = ["herald"]
    starts = 2026-12-01T02:00:00
    ends = 2026-12-01T03:30:00Z
    zone = "Europe/Madrid"
    [[maintenance]]
    services = ["*"]
    at = "23:00-01:00"
    days = ["fri"]
    """
    once, weekly = load_text(text).config.maintenance
    assert once.once is not None
    assert [f"{moment:%H:%M %z}" for moment in once.once] == ["02:00 +0100", "03:30 +0000"]
    assert (weekly.once, weekly.days, weekly.zone, weekly.reason) == (None, ("fri",), "UTC", "planned maintenance")


def test_plans_by_environment(load_text: LoadText) -> None:
    plans = '[{"services": ["hermes"], "starts": "2026-12-01T02:00:00Z", "ends": "2026-12-01T03:00:00Z", "reason": "a new disk"}]'
    (plan,) = load_text(FLEET, {"TENTACULO_MAINTENANCE": plans}).config.maintenance
    assert plan.reason == "a new disk"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[incidents]\nsettle = 0", "incidents.settle: must be more than 0"),
        ("[incidents]\nkeep = 0", "incidents.keep: must be at least 1"),
        ("[alerts]\nwait = -1", "alerts.wait: must be at least 0"),
        ("[alerts]\nattempts = 0", "alerts.attempts: must be at least 1"),
        (
            '[alerts]\npage = "https://a.example/status"',
            "alerts.page: must be an origin such as http://localhost:8020, without a path",
        ),
        ('[alerts.webhooks.duty]\nsecrets = ["whsec_x"]', "alerts.webhooks.duty.url: is required"),
        (
            '[alerts.webhooks.duty]\nurl = "https://a.example"',
            "alerts.webhooks.duty: needs either secrets or secrets_file; `tentaculo alerts secret` makes one",
        ),
        (
            f'[alerts.webhooks.duty]\nurl = "ftp://a.example/{SECRET}"',
            "alerts.webhooks.duty.url: must be an http:// or https:// address",
        ),
        (
            f'[alerts.webhooks.duty]\nurl = "https://{SECRET}@a.example"',
            "alerts.webhooks.duty.url: must not hold a user name or a fragment",
        ),
        (
            f'[alerts.webhooks.duty]\nurl = "https://a.example"\nsecrets = ["{SECRET}"]',
            "alerts.webhooks.duty.secrets[0]: must begin with whsec_",
        ),
        (
            f'[alerts.webhooks.duty]\nurl = "https://a.example"\nsecrets = ["whsec_{SECRET}"]',
            "alerts.webhooks.duty.secrets[0]: must be whsec_ and base64",
        ),
        (
            '[alerts.webhooks.duty]\nurl = "https://a.example"\nsecrets = ["whsec_AAAA"]',
            "alerts.webhooks.duty.secrets[0]: must hold 24 to 64 bytes; `tentaculo alerts secret` makes one",
        ),
        (
            '[alerts.webhooks.duty]\nurl = "https://a.example"\nsecrets_file = "none"',
            "alerts.webhooks.duty.secrets_file: cannot be read: No such file or directory",
        ),
        (
            f'[alerts.webhooks."on duty"]\nurl = "https://a.example"\nsecrets = ["{KEY}"]',
            'alerts.webhooks."on duty": must have only letters, digits, _ and -, at most 64',
        ),
        (
            f'[alerts]\napprise = {{ phone = "{SECRET}" }}',
            "alerts.apprise.phone: must be an Apprise address such as tgram://token/chat",
        ),
        (
            f'[alerts]\napprise = {{ duty = "json://a.example" }}\n[alerts.webhooks.duty]\nurl = "https://a.example"\nsecrets = ["{KEY}"]',
            "alerts.apprise.duty: is taken already by alerts.webhooks.duty",
        ),
    ],
)
def test_alerts_that_cannot_be(faults_of: FaultsOf, text: str, fault: str) -> None:
    assert fault in faults_of(text)


def test_keys_come_from_a_file_as_well_and_are_never_shown(load_text: LoadText, tmp_path: Path) -> None:
    (tmp_path / "duty.keys").write_text(f"# the new one\n{KEY}\n\n{KEY}\n")
    webhook = '[alerts.webhooks.duty]\nurl = "http://a.example/a-token"\nsecrets_file = "duty.keys"\n'
    loaded = load_text(FLEET + webhook + '[alerts.apprise]\nphone = "tgram://a-token/a-chat"\n')
    duty = loaded.config.alerts.webhooks["duty"]
    assert duty.secrets is not None
    assert [secret_bytes(one.reveal()) for one in duty.secrets] == [bytes(range(24))] * 2
    assert loaded.warnings == (
        "alerts.webhooks.duty is not https://: others on the network can read its messages",
        "alerts.page is not set: the links in alerts work on this machine only",
    )
    shown = repr(loaded.config) + str(loaded.config) + " ".join(loaded.warnings)
    assert KEY not in shown
    assert "a-token" not in shown
