"""The tables [log], [reload], [admin] and [page]: what a gateway writes, how its configuration changes, and its pages."""

from __future__ import annotations

from datetime import tzinfo
from pathlib import Path
from typing import Annotated, Literal

from tentaculo.config.section import Doc, Section, at_most_long
from tentaculo.config.types import Line, TimeZoneName, time_zone


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


class PageSettings(Section, frozen=True):
    """[page]: the status pages."""

    title: Annotated[
        Annotated[Line, at_most_long(60)] | None,
        Doc("Name of the status pages, beside that of the product.", default="none", example="Example Services"),
    ] = None
    zone: Annotated[
        TimeZoneName,
        Doc(
            "Time zone in which the pages show times. A browser that runs their script shows its own.",
            example="Europe/Madrid",
        ),
    ] = "UTC"

    @property
    def time_zone(self) -> tzinfo:
        """Its zone."""
        return time_zone(self.zone)
