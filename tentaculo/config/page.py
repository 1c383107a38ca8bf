"""The table [page]: what the status pages are called, and whose time they show."""

from __future__ import annotations

from datetime import tzinfo
from typing import Annotated

from tentaculo.config.section import Doc, Section, at_most_long
from tentaculo.config.types import Line, TimeZoneName, time_zone


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
