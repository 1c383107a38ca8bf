"""The table [reload]: how a gateway that runs takes up a changed configuration."""

from __future__ import annotations

from typing import Annotated

from tentaculo.config.section import Doc, Section


class ReloadSettings(Section, frozen=True):
    """[reload]: reading the configuration again."""

    watch: Annotated[
        bool,
        Doc(
            "Whether the gateway reloads by itself, about two seconds after the configuration file has changed, or a file"
            " that it names for tokens or keys."
        ),
    ] = False
