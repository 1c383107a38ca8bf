"""How long the searches at random look for faults. Each run begins elsewhere."""

from __future__ import annotations

import os

SEARCH = int(os.environ.get("SEARCH") or 1)
"""A factor. 1 suits the checks of each change; `make conformance SEARCH=4` gives each target of atheris 20 seconds."""
