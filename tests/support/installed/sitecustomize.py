"""Python runs this at its start where its folder is in PYTHONPATH: what only the tests install is not found then.

structlog loads rich where it is there, which takes 3 MB. An installed gateway has none. None in place of a module makes its
import fail.
"""

from __future__ import annotations

import sys

sys.modules["rich"] = None  # type: ignore[assignment]
