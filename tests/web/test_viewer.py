"""For whom a page is rendered."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request

from tentaculo.web.viewer import Viewer, viewer_of


@pytest.mark.parametrize("is_public", [True, False])
def test_who_reaches_a_page_that_is_not_public_has_a_token(is_public: bool) -> None:
    assert viewer_of(make_mocked_request("GET", "/status"), is_public=is_public) == Viewer(is_signed_in=not is_public)
