"""What limits the requests of each route of a service, in words. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from tentaculo.model.page import RequestRule, RouteRules
from tentaculo.model.text import printable
from tentaculo.web.languages import Language

_MOST_ROUTES: Final = 20
_MOST_NETWORKS: Final = 5
_PER: Final = {"caller": "service.per_caller", "address": "service.per_address", "route": "service.per_route"}


class LimitRow(NamedTuple):
    """The limits of one route, or how many are left out."""

    route: str
    """Empty where it is none."""
    said: str
    refused: str
    tone: str


def limit_rows(found: Sequence[RouteRules], worker: int | None, t: Language) -> list[LimitRow]:
    """The rows of the routes that have limits. Each worker counts by itself what it refuses, and this one says so."""
    rows = []
    for one in found[:_MOST_ROUTES]:
        refused = t("service.refused", count=one.refused)
        if worker is not None:
            refused = t("service.of_worker", number=worker, what=refused)
        said = "; ".join((*(_rule(rule, t) for rule in one.rules), *_networks(one, t)))
        rows.append(LimitRow(printable(one.route, 120), said, refused, "down" if one.refused else ""))
    if len(found) > _MOST_ROUTES:
        rows.append(LimitRow("", t("events.and_more", count=len(found) - _MOST_ROUTES), "", ""))
    return rows


def _rule(rule: RequestRule, t: Language) -> str:
    parts = [rule.rate] if rule.rate else []
    if rule.burst is not None:
        parts.append(t("service.burst", count=rule.burst))
    if rule.in_flight is not None:
        parts.append(t("service.at_once", count=rule.in_flight))
    return t(_PER[rule.per], what=", ".join(parts))


def _networks(one: RouteRules, t: Language) -> Iterator[str]:
    for key, networks in (("service.only_from", one.allow), ("service.not_from", one.deny)):
        if networks:
            more = (
                [t("events.and_more", count=len(networks) - _MOST_NETWORKS)] if len(networks) > _MOST_NETWORKS else []
            )
            yield t(key, networks=", ".join((*networks[:_MOST_NETWORKS], *more)))
