"""The table [admin]: where the changes of the write API are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tentaculo.config.section import Doc, Section


class AdminSettings(Section, frozen=True):
    """[admin]: the write API."""

    changes_file: Annotated[
        Path | None,
        Doc(
            "File with the changes that were made by the write API. It has secrets, and only its owner can read it.",
            default="data/changes.json",
            example="data/changes.json",
        ),
    ] = None
