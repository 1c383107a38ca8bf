"""Python runs this at its start where its folder is in PYTHONPATH: what only the tests install is not found then.

structlog loads rich and greenlet where they are there, which takes 3 MB and 2 MB. An installed gateway has neither. None
in place of a module makes its import fail.
"""

from __future__ import annotations

import sys

sys.modules["rich"] = sys.modules["greenlet"] = None  # type: ignore[assignment]
