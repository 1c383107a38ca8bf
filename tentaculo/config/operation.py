"""The tables [log] and [reload]: what a gateway that runs writes, and how it takes up a changed configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from tentaculo.config.section import Doc, Section


class LogSettings(Section, frozen=True):
    """[log]: what is written to standard error."""

    level: Annotated[Literal["debug", "info", "warning", "error"], Doc("Lowest level that is logged.")] = "info"
    format: Annotated[
        Literal["auto", "json", "console"], Doc("Format of a log line. auto is console on a terminal, else json.")
    ] = "auto"
    access: Annotated[bool, Doc("Whether each request is logged in one line.")] = True


class ReloadSettings(Section, frozen=True):
    """[reload]: reading the configuration again."""

    watch: Annotated[
        bool,
        Doc(
            "Whether the gateway reloads by itself, about two seconds after the configuration file has changed, or a file"
            " that it names for tokens or keys."
        ),
    ] = False
    close_removed: Annotated[
        bool,
        Doc(
            "Whether a reload ends the requests in flight, event streams and tunnels of services that it removes. Else they"
            " end by themselves."
        ),
    ] = False
