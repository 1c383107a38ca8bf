"""What a reload changes: two configurations compared, the keys that only a restart applies, and a digest of one. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any

import msgspec

from tentaculo.config.errors import KeyPath, dotted
from tentaculo.config.schema import Config
from tentaculo.config.section import UNSET, Section, keys_of
from tentaculo.config.types import Secret

_SOCKETS = "the gateway opens its sockets at the start"
_DATABASE = "the gateway opens its database at the start"
_QUEUE = "the queue before the database is made at the start"
_LOG = "the log is set up at the start"
RESTART: Mapping[str, str] = {
    "server.host": _SOCKETS,
    "server.port": _SOCKETS,
    "server.listen": _SOCKETS,
    "server.instance": "events have carried this name since the start",
    "server.workers": "the processes are started once",
    "database.url": _DATABASE,
    "database.durability": _DATABASE,
    "database.auto_upgrade": "the schema is upgraded at the start",
    "events.wait": _QUEUE,
    "events.queue": _QUEUE,
    "log.level": _LOG,
    "log.format": _LOG,
    "log.access": _LOG,
}
"""The keys that only a restart applies, with the reason. A reload applies every other key."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What a reload changes: names of services and keys, never a value, which may be secret."""

    added: tuple[str, ...] = ()
    """Services that are new, in the order of the configuration, as the following."""
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    changed_keys: tuple[str, ...] = ()
    """Dotted names of the changed keys outside services that are applied."""
    needs_restart: Mapping[str, str] = field(default_factory=dict)
    """Dotted names of the changed keys that only a restart applies, each with the reason."""

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed or self.changed_keys or self.needs_restart)

    def with_key(self, key: str) -> Changes:
        """The same with one more key that is applied."""
        return replace(self, changed_keys=tuple(dict.fromkeys((*self.changed_keys, key))))

    def as_json(self) -> dict[str, Any]:
        """For responses and events."""
        return {
            "added": list(self.added),
            "removed": list(self.removed),
            "changed": list(self.changed),
            "kept": list(self.kept),
            "changed_keys": list(self.changed_keys),
            "needs_restart": [{"key": key, "reason": reason} for key, reason in self.needs_restart.items()],
        }

    def lines(self) -> list[str]:
        """For people, one fact a line."""
        if not self:
            return [f"nothing has changed, {_services(self.kept)} kept"]
        parts = {"added": self.added, "removed": self.removed, "changed": self.changed}
        found = [f"{word}: {', '.join(names)}" for word, names in parts.items() if names]
        found.append(f"kept: {_services(self.kept)}")
        if self.changed_keys:
            found.append(f"changed keys: {', '.join(self.changed_keys)}")
        return found + [f"needs a restart: {key} ({reason})" for key, reason in self.needs_restart.items()]


def _services(names: Collection[str]) -> str:
    return "1 service" if len(names) == 1 else f"{len(names)} services"


def compare(old: Config, new: Config) -> Changes:
    """What changes from `old` to `new`."""
    before, after = old.services, new.services
    both = [name for name in after if name in before]
    keys = [dotted(path) for path in _changed_keys((), old, new)]
    return Changes(
        tuple(name for name in after if name not in before),
        tuple(name for name in before if name not in after),
        tuple(name for name in both if before[name] != after[name]),
        tuple(name for name in both if before[name] == after[name]),
        tuple(key for key in keys if key not in RESTART),
        {key: RESTART[key] for key in keys if key in RESTART},
    )


def _changed_keys(path: KeyPath, old: Section, new: Section) -> Iterator[KeyPath]:
    for name in keys_of(type(new)):
        place = (*path, name)
        if place != ("services",):
            yield from _changed_values(place, getattr(old, name), getattr(new, name))


def _changed_values(place: KeyPath, old: Any, new: Any) -> Iterator[KeyPath]:
    if isinstance(new, Section) and type(old) is type(new):
        yield from _changed_keys(place, old, new)
    elif isinstance(new, dict) and isinstance(old, dict):
        for name in dict.fromkeys((*old, *new)):
            yield from _changed_values((*place, name), old.get(name, UNSET), new.get(name, UNSET))
    elif old != new:
        yield place


def appliable(old: Config, new: Config) -> Config:
    """`new` with the values of `old` for the keys that only a restart applies: what a reload puts in place.

    Services that stay as they are keep their identity: what holds the older ones for a while keeps no second copy.
    """
    sections: dict[str, Section] = {}
    for key in RESTART:
        section, name = key.split(".")
        made = sections.get(section) or getattr(new, section)
        sections[section] = made.replace(**{name: getattr(getattr(old, section), name)})
    before = old.services
    services = {name: before[name] if before.get(name) == one else one for name, one in new.services.items()}
    return new.replace(**sections, services=services, folder=old.folder)


def digest(config: Config, hashes: Collection[str]) -> str:
    """What identifies a configuration with its accepted tokens: the same in every process that has the same.

    It is keyed by the hashes of the tokens, so that nobody can try out guesses of another secret with it.
    """
    found = blake2b(key=blake2b("\n".join(sorted(hashes)).encode()).digest(), digest_size=16)
    sections = (
        (name, getattr(config, name)) for name in config.__struct_fields__ if name not in {"folder", "services"}
    )
    # One by one: the event loop stands still while a thread encodes.
    for part in (*sections, *config.services.items()):
        found.update(_encode(part) + b"\n")
    return found.hexdigest()


def _as_json(value: object) -> object:
    """What a value is encoded as that JSON has no form for."""
    return ["secret", value.reveal()] if isinstance(value, Secret) else repr(value)


_encode = msgspec.json.Encoder(enc_hook=_as_json).encode
