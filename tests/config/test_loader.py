from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tentaculo.config.accepted_tokens import TokenSettings
from tentaculo.config.errors import ConfigError
from tentaculo.config.loader import load, load_tables, load_usable
from tests.support.config import SECRET, FaultsOf, LoadText
from tests.support.gateway_process import ROOT


def test_the_form_the_issue_fixed_loads(load_text: LoadText, tmp_path: Path) -> None:
    loaded = load_text("""
        [server]
        host = "127.0.0.1"
        port = 8000
        [auth]
        enabled = true
        tokens = ["sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789ABCDEF"]
        [database]
        url = "sqlite:///data/tentaculo.db"
        [services.madre]
        url = "http://127.0.0.1:8001"
        health = ["/health", "/healthz", "/madre/health"]
        routes = [{ prefix = "/madre", strip = false, timeout = 300 }, { prefix = "/madre/tasks", to = "/tasks" }]
        breaker = { failures = 5, open_for = 10 }
        probe = { interval = 10, timeout = 3 }
    """)
    madre = loaded.config.services["madre"]
    assert loaded.path == tmp_path / "tentaculo.toml"
    assert loaded.config.folder == tmp_path
    assert loaded.warnings == ()
    assert madre.name == "madre"
    assert [(route.prefix, route.replacement, route.timeout) for route in madre.routes] == [
        ("/madre", "/madre", 300),
        ("/madre/tasks", "/tasks", None),
    ]
    assert loaded.config.auth.tokens == (TokenSettings(hash="sha256:" + "0123456789abcdef" * 4),)


def test_without_a_file_the_defaults_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    loaded = load(None, {})
    assert loaded.path is None
    assert loaded.config.services == {}
    assert loaded.config.folder == tmp_path
    assert loaded.config.server.addresses == (("127.0.0.1", 8000),)


def test_the_file_in_the_working_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tentaculo.toml").write_text("[server]\nport = 8123\n")
    assert load(None, {}).config.server.port == 8123


def test_the_environment_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tentaculo.toml").write_text("[server]\nport = 8123\n")
    (tmp_path / "other.toml").write_text("[server]\nport = 8124\n")
    assert load(None, {"TENTACULO_CONFIG": "other.toml"}).config.server.port == 8124
    assert load(Path("tentaculo.toml"), {"TENTACULO_CONFIG": "other.toml"}).config.server.port == 8123


def test_every_fault_is_reported_at_once(faults_of: FaultsOf) -> None:
    found = faults_of(
        f"""
        name = "x"
        folder = "/"
        [server]
        prot = 1
        port = true
        trusted_proxies = ["10.0.0.1/8", 3]
        listen = ["127.0.0.1:1", "nowhere", "127.0.0.1:1"]
        [auth]
        tokens = ["{SECRET}"]
        [database]
        url = "mysql://u:{SECRET}@h/db"
        [limits]
        connect = 0
        first_byte = inf
        headers = 5
        [log]
        level = "loud"
        [services.gateway]
        url = "http://x"
        [services.madre]
        url = "http://u:{SECRET}@h"
        name = "x"
        aliases = ["switch"]
        token = "{SECRET} with a space"
        routes = [
          {{ prefx = "/a" }},
          {{ prefix = "x" }},
          {{ prefix = "/q", strip = true, to = "/z", timeot = 1 }},
          {{ prefix = "/q/", host = "a:80", set_headers = {{ "bad name" = "{SECRET}" }} }},
        ]
        [services.switch]
        urls = []
        token_file = "nowhere"
        enabled_env = "SWITCH_ENABLED"
        routes = [{{ prefix = "/q" }}]
        """,
        {
            "SWITCH_ENABLED": "perhaps",
            "TENTACULO_SERVER_KEEPALIVE": SECRET,
            "TENTACULO_CORS_ORIGINS": SECRET,
            "TENTACULO_SERVICES_MADRE_BREAKER_FAILURES": "0",
            "TENTACULO_TOKEN": f"{SECRET} with a space",
        },
    )
    assert set(found) == {
        'TENTACULO_CORS_ORIGINS: must be a list as JSON, such as ["a", "b"]',
        "TENTACULO_TOKEN: must be visible ASCII characters only",
        "auth.tokens[0].hash: must be sha256: and 64 hex digits, as `tentaculo token new` makes it; not the token itself",
        "database.url: must begin with sqlite:/// or postgresql://",
        "folder: unknown key",
        "limits.connect: must be more than 0",
        "limits.first_byte: must be at most 31622400",
        "limits.headers: must be at least 1024",
        "log.level: must be one of 'debug', 'info', 'warning' or 'error'",
        "name: unknown key",
        "server.keepalive: must be a number (set by TENTACULO_SERVER_KEEPALIVE)",
        'server.listen[1]: must be host:port, such as "127.0.0.1:8000" or "[::1]:8000"',
        "server.listen[2]: is the same as server.listen[0]",
        "server.port: must be a number",
        'server.prot: unknown key; did you mean "port"?',
        "server.trusted_proxies[0]: has bits set beyond its mask; the network is 10.0.0.0/8",
        'server.trusted_proxies[1]: must be a network in quotes, such as "10.0.0.0/8"',
        "services.gateway: is reserved for the gateway; choose another name",
        "services.madre.aliases[0]: is the name of another service, switch",
        "services.madre.breaker.failures: must be at least 1 (set by TENTACULO_SERVICES_MADRE_BREAKER_FAILURES)",
        "services.madre.name: unknown key",
        "services.madre.routes[0].prefix: is required",
        'services.madre.routes[0].prefx: unknown key; did you mean "prefix"?',
        "services.madre.routes[1].prefix: must start with /",
        "services.madre.routes[2]: has both strip and to; to already replaces the prefix",
        'services.madre.routes[2].timeot: unknown key; did you mean "timeout"?',
        "services.madre.routes[3].host: must be a host name without a port",
        'services.madre.routes[3].set_headers."bad name": is not a header name',
        "services.madre.token: must be visible ASCII characters only",
        "services.madre.url: must not hold a user name or a password; a route's set_headers can send them",
        "services.switch.enabled_env: SWITCH_ENABLED must be true or false (or 1, yes, y, t, on, 0, no, n, f, off)",
        "services.switch.routes[0].prefix: is taken already by services.madre.routes[2]",
        "services.switch.token_file: cannot be read: No such file or directory",
        "services.switch: needs either url or urls",
    }
    assert len(found) == len(set(found))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("services = 3", "services: must be a table"),
        ("server = []", "server: must be a table"),
        ("services.madre = 'x'", "services.madre: must be a table"),
        ("services.madre.url = 1", "services.madre.url: must be text"),
        ("services.madre = { url = 'http://h', routes = { prefix = '/' } }", "services.madre.routes: must be a list"),
        ("services.madre = { url = 'http://h', routes = ['/'] }", "services.madre.routes[0]: must be a table"),
        ("services.madre = { url = 'http://h', health = [] }", "services.madre.health: must not be empty"),
        (
            "services.madre = { url = 'http://h', enabled = 'perhaps' }",
            "services.madre.enabled: must be true or false, without quotes",
        ),
        ("auth.enabled = 'no'", "auth.enabled: must be true or false, without quotes"),
        ("auth.enabled = 0", "auth.enabled: must be true or false, without quotes"),
        ("server.port = '8000'", "server.port: must be a number"),
        ("services.madre = { url = 'http://h', urls = ['http://i'] }", "services.madre: needs either url or urls"),
        (
            "services.madre = { url = 'http://h', token = 'a', token_file = 'b' }",
            "services.madre: has both token and token_file",
        ),
        ("server.port = 8000.5", "server.port: must be a whole number"),
        ("server.port = 70000", "server.port: must be at most 65535"),
        ("limits.connect = 1979-05-27", "limits.connect: must be a number"),
        ("limits.idle = nan", "limits.idle: must be more than 0"),
        ('"a.b\\u001b" = 1', '"a.b\\x1b": unknown key'),
    ],
)
def test_a_value_of_the_wrong_kind_is_named(faults_of: FaultsOf, text: str, fault: str) -> None:
    assert fault in faults_of(text)


def test_a_syntax_error_is_one_fault_with_its_line(faults_of: FaultsOf, tmp_path: Path) -> None:
    (found,) = faults_of(f'[server]\nport = 1\nhost "{SECRET}"\n')
    assert found.startswith(f"{tmp_path / 'tentaculo.toml'}: is not valid TOML: ")
    assert "line 3" in found


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"a = " + b"[" * 5000, "is not valid TOML"),
    ],
)
def test_a_file_that_is_no_toml_is_one_fault(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "x.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=words) as caught:
        load(file, {})
    assert len(caught.value.faults) == 1


def test_a_missing_file_and_a_folder_are_faults(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read: No such file"):
        load(tmp_path / "nowhere.toml", {})
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path, {})
    with pytest.raises(ConfigError, match="cannot be read"):
        load(None, {"TENTACULO_CONFIG": str(tmp_path / "nowhere.toml")})


def test_a_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_bytes(b"\xef\xbb\xbf[server]\r\nport = 8123\r\n")
    assert load(file, {}).config.server.port == 8123


def test_the_tables_that_are_loaded_stay_as_they_are(tmp_path: Path) -> None:
    tables = {"services": {"madre": {"url": "http://h"}}}
    loaded = load_tables(tables, {"TENTACULO_SERVICE_TOKEN": "t", "TENTACULO_SERVER_PORT": "1"}, folder=tmp_path)
    assert loaded.config.services["madre"].token is not None
    assert tables == {"services": {"madre": {"url": "http://h"}}}


def test_an_open_gateway_beyond_this_machine_is_warned_of(load_text: LoadText) -> None:
    (warning,) = load_text('[auth]\nenabled = false\n[server]\nhost = "0.0.0.0"').warnings
    assert "0.0.0.0" in warning
    assert load_text("[auth]\nenabled = false").warnings == ()


def test_a_token_that_only_probes_carry_is_warned_of(load_text: LoadText) -> None:
    text = "auth.enabled = false\n[services.madre]\nurl = 'http://h'\ntoken = 't'\nroutes = [{ prefix = '/madre'%s }]"
    (warning,) = load_text(text % "").warnings
    assert "only probes carry the token of madre" in warning
    assert load_text(text % ", send_token = true").warnings == ()
    assert load_text((text % "").replace("false", "true")).warnings == ()


def test_a_token_that_is_shared_is_warned_of(load_text: LoadText) -> None:
    (warning,) = load_text("auth.share_token = true", {"TENTACULO_TOKEN": "t"}).warnings
    assert warning.startswith("auth.share_token is true")
    assert load_text("auth.share_token = true").warnings == ()


def test_nothing_shown_of_a_configuration_holds_a_secret(load_text: LoadText) -> None:
    loaded = load_text(
        f"""
        [database]
        url = "postgresql://u:{SECRET}@h/db"
        [services.madre]
        url = "http://h"
        token = "{SECRET}"
        """,
        {"TENTACULO_TOKEN": SECRET},
    )
    assert SECRET not in repr(loaded)


def output_of(script: str, folder: Path) -> str:
    """What a new interpreter prints that runs `script` in `folder`."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=50, check=True)
    return done.stdout


def test_loading_takes_no_more_than_it_needs(tmp_path: Path) -> None:
    """What is only needed by some stays out of the memory of an idle gateway."""
    (tmp_path / "tentaculo.toml").write_text("[services.madre]\nurl = 'http://h'\nprobe = { contains = 'x' }\n")
    script = "import sys; from tentaculo.config.loader import load; load(environ={}); print(*sorted(sys.modules))"
    loaded = set(output_of(script, tmp_path).split())
    assert "msgspec" in loaded
    assert not loaded & {"pydantic", "re2", "aiohttp", "sqlalchemy", "asyncio"}


def test_loading_looks_at_no_section_that_is_not_set(tmp_path: Path) -> None:
    """To look at the keys of all sections takes longer than to read a file."""
    (tmp_path / "tentaculo.toml").write_text("[services.madre]\nurl = 'http://h'\n")
    script = """
from tentaculo.config.loader import load
from tentaculo.config.section import keys_of
config = load(environ={"TENTACULO_TOKEN": 40 * "t", "TENTACULO_SERVER_PORT": "80"}).config
assert config.server.port == 80
print(keys_of.cache_info().currsize)
"""
    assert int(output_of(script, tmp_path)) == 3, "the sections Config, ServerSettings and Service"


def test_a_name_that_is_listed_and_claimed_is_named(load_text: LoadText) -> None:
    text = 'server.hosts = ["a.test"]\n[services.web]\nurl = "http://h"\nroutes = [{ prefix = "/", host = "a.test" }]'
    (warning,) = load_text(text).warnings
    assert (
        warning == "services.web.routes[0] claims a.test, which is in server.hosts: the gateway's own paths win there"
    )


@pytest.mark.parametrize(
    ("guarded", "opened", "said"),
    [
        ('prefix = "/a", strip = true', 'prefix = "/b", strip = true', "needs a token"),
        ('prefix = "/a"', 'prefix = "/b", to = "/a"', "needs a token"),
        ('prefix = "/a", host = "a.test"', 'prefix = "/a"', "at another host"),
        ('prefix = "/", host = "a.test"', 'prefix = "/", host = "b.test"', "at another host"),
        ('prefix = "/a"', 'prefix = "/b"', None),
        ('prefix = "/a", strip = true', 'prefix = "/b", to = "/b"', None),
        ('prefix = "/a", exact = true', 'prefix = "/b", to = "/a"', None),
    ],
)
def test_an_open_route_to_all_that_another_guards_is_named(
    load_text: LoadText, guarded: str, opened: str, said: str | None
) -> None:
    routes = f'routes = [{{ {guarded} }}, {{ {opened}, auth = "none" }}]'
    warnings = load_text(f'[services.web]\nurl = "http://h"\n{routes}').warnings
    if said is None:
        assert warnings == ()
        return
    (warning,) = warnings
    assert warning.startswith("services.web.routes[1] is open")
    assert "services.web.routes[0]" in warning
    assert said in warning


@pytest.mark.parametrize(
    ("guarded", "url", "said"),
    [
        ('prefix = "/a", strip = true', "http://h", "needs a token: the service sees the paths that"),
        ('prefix = "/a", strip = true, host = "a.test"', "http://h", "at another host"),
        (
            'prefix = "/a"',
            "http://h",
            "not to the paths that services.two.routes[0] guards: two has an endpoint of one",
        ),
        ('prefix = "/a"', "http://h:81", None),
    ],
)
def test_an_open_route_to_what_another_service_guards_is_named(
    load_text: LoadText, guarded: str, url: str, said: str | None
) -> None:
    one = '[services.one]\nurl = "http://h"\nroutes = [{ prefix = "/b", strip = true, auth = "none" }]\n'
    warnings = load_text(f'{one}[services.two]\nurl = "{url}"\nroutes = [{{ {guarded} }}]').warnings
    if said is None:
        assert warnings == ()
        return
    (warning,) = warnings
    assert warning.startswith("services.one.routes[0] is open")
    assert "services.two.routes[0]" in warning
    assert said in warning


@pytest.mark.parametrize(
    ("server", "url", "is_own"),
    [
        ("port = 8123", "http://127.0.0.1:8123", True),
        ("port = 8123", "http://localhost:8123", True),
        ("port = 8123", "http://[::1]:8123", True),
        ("host = '0.0.0.0'\nport = 8123", "http://127.0.0.1:8123", True),
        ("host = '0.0.0.0'\nport = 80", "http://localhost", True),
        ("listen = ['10.0.0.7:1', '10.0.0.7:8123']", "http://10.0.0.7:8123", True),
        ("listen = ['10.0.0.7:1', '10.0.0.7:8123']", "http://127.0.0.1:8123", False),
        ("listen = ['0.0.0.0:8123', '[::]:8123']", "http://127.0.0.1:8123", True),
        ("host = '0.0.0.0'\nport = 8123", "http://127.1.2.3:8123", True),
        ("host = '0.0.0.0'\nport = 8123\nhosts = ['gw.example.org']", "http://GW.example.org.:8123", True),
        ("host = '0.0.0.0'\nport = 8123", f"http://{socket.gethostname()}:8123", True),
        ("host = '0.0.0.0'\nport = 8123", "http://tentaculo_link:8123", True),
        ("host = '0.0.0.0'\nport = 8123", "http://tentaculo-link:8123", True),
        ("host = '0.0.0.0'\nport = 8123", "http://192.0.2.7:8123", False),
        ("port = 8123", "http://tentaculo_link:8123", False),
        ("host = '0.0.0.0'\nport = 8123", "http://gw.example.org:8123", False),
        ("port = 8123", "http://127.0.0.2:8123", False),
        ("port = 8123", "http://127.0.0.1:8124", False),
        ("port = 8123", "http://madre:8123", False),
        ("port = 0", "http://127.0.0.1:8123", False),
    ],
)
def test_a_service_at_the_address_of_the_gateway_is_warned_of(
    server: str, url: str, is_own: bool, load_text: LoadText
) -> None:
    warnings = load_text(f"[server]\n{server}\n[services.web]\nurl = '{url}'\n").warnings
    assert len(warnings) == is_own
    assert all("services.web is asked at http://" in one and "the gateway itself listens" in one for one in warnings)


def test_a_service_at_an_address_of_this_machine_is_warned_of(load_text: LoadText) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no address but that of the loopback")
        own = sock.getsockname()[0]
    text = "[server]\nhost = '0.0.0.0'\nport = 8123\n[services.web]\nurl = 'http://{}:{}'\n"
    assert len(load_text(text.format(own, 8123)).warnings) == 1
    assert load_text(text.format(own, 8124)).warnings == ()


@pytest.mark.parametrize(
    ("route", "warning"),
    [
        ('prefix = "/x/*"', "prefix has a *, which stands for itself: a prefix takes every path below it already"),
        ('prefix = "/x/*/y"', "prefix has a *, which stands for itself: a prefix takes every path below it already"),
        (
            'prefix = "/vx11/incidents/archive"',
            "prefix is below /vx11/incidents/, where the gateway's own paths win: a later version may have more of them",
        ),
        (
            'prefix = "/status/new"',
            "prefix is below /status/, where the gateway's own paths win: a later version may have more of them",
        ),
        ('prefix = "/status/new", host = "app.example.org"', None),
        (
            'prefix = "/vx11/history/web"',
            "prefix is a path of the gateway itself, which wins: the service gets only paths below it, as of /vx11/history/web/",
        ),
        (
            'prefix = "/ws"',
            "prefix is a path of the gateway itself, which wins: the service gets only paths below it, as of /ws/",
        ),
        ('prefix = "/ws/"', None),
        ('prefix = "/ws", host = "app.example.org"', None),
        ('prefix = "/wsx"', None),
        ('prefix = "/"', None),
    ],
)
def test_prefixes_that_do_not_mean_what_they_seem_to(route: str, warning: str | None, load_text: LoadText) -> None:
    warnings = load_text(f"[services.web]\nurl = 'http://h'\nroutes = [{{ {route} }}]\n").warnings
    assert warnings == (() if warning is None else (f"services.web.routes[0].{warning}",))


@pytest.mark.parametrize("text", ["fe80::1%25eth0", "fe80::1%eth0"])
def test_the_zone_of_an_address_may_be_written_as_in_urls(text: str, load_text: LoadText) -> None:
    config = load_text(f"[server]\nlisten = ['[{text}]:8000']\n[services.web]\nurl = 'http://[{text}]:8001'\n").config
    assert config.server.addresses == (("fe80::1%eth0", 8000),)
    (endpoint,) = config.services["web"].upstreams
    assert (endpoint.host, endpoint.authority) == ("fe80::1%eth0", "[fe80::1]:8001")
    assert load_text(f"server.host = '[{text}]'").config.server.addresses == (("fe80::1%eth0", 8000),)


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("strip_prefix = true", '; did you mean "strip"?'),
        ('path = "/x"', '; did you mean "prefix"?'),
        ('rewrite = "/x"', '; did you mean "to"?'),
        ("timeot = 1", '; did you mean "timeout"?'),
        ("nothing_of_ours = 1", ""),
    ],
)
def test_hints_name_the_key_that_is_meant(key: str, hint: str, faults_of: FaultsOf) -> None:
    found = faults_of(f"[services.web]\nurl = 'http://h'\nroutes = [{{ prefix = '/a', {key} }}]\n")
    assert found == [f"services.web.routes[0].{key.partition(' ')[0]}: unknown key{hint}"]


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("tentaculo.toml", ""),
        ("data/token", ""),
        ("data/../tokens", '[auth]\ntoken_file = "tokens"\n'),
        ("data/tentaculo.db", ""),
        ("one.token", '[services.one]\nurl = "http://127.0.0.1:1"\ntoken_file = "one.token"\n'),
    ],
)
def test_the_file_of_changes_is_no_other_one(tmp_path: Path, path: str, more: str) -> None:
    """It was left out with a warning, and taking all changes back wrote over the configuration, the tokens or the data."""
    file = tmp_path / "tentaculo.toml"
    (tmp_path / "one.token").write_text("a-token\n")
    file.write_text(f'[admin]\nchanges_file = "{path}"\n{more}')
    with pytest.raises(ConfigError) as caught:
        load_usable(file, {})
    assert [str(one) for one in caught.value.faults] == [
        "admin.changes_file: is the path of another file of the configuration"
    ]
