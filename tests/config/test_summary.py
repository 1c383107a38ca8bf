from __future__ import annotations

from tentaculo.config.summary import summarise
from tests.config.conftest import SECRET, LoadText


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
        """,
        {"TENTACULO_TOKEN": SECRET, "TENTACULO_NOTHING": SECRET},
    )
    text = "\n".join(summarise(loaded))
    assert text.startswith(f"{loaded.path} is fine: 2 services, 2 routes\n")
    assert "madre, also mother at http://h:1\n" in text
    assert "  /m                               as /\n" in text
    assert "  x.y/                             as it is, 5 s, open without a token\n" in text
    assert "off at http://h:2, http://h:3, depends on madre (resting)" in text
    assert text.endswith("warning: TENTACULO_NOTHING is not a name of the configuration and is ignored")
    assert SECRET not in text
