"""The layer of changes between the configuration file and the environment, and the file that keeps it.

The write API makes the changes while the gateway runs. They are one JSON Merge Patch over the tables of the configuration
file, so that keys that nobody changed here still follow that file. Overrides for a time switch a service on or off, above
the environment too, until their end.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from tentaculo.config.errors import ConfigError, ConfigFault, KeyPath
from tentaculo.config.files import FileTooLargeError, read_bytes, replace_file, replaceable
from tentaculo.config.merge_patch import MISSING, Table, merged, value_at, with_value

DEFAULT_CHANGES_FILE = Path("data/changes.json")
"""Default of `admin.changes_file`, relative to the folder of the configuration file."""
MOST_BYTES = 8 * 1024 * 1024
"""Largest file of changes that is read."""
_CHANGED: Mapping[str, frozenset[str] | None] = {
    "services": None,
    "maintenance": None,
    "alerts": frozenset(("webhooks", "apprise")),
}
"""What can be changed: sections, and the keys of one where it is not all of them."""

_NAMED: tuple[KeyPath, ...] = (("services",), ("alerts", "webhooks"))
_ADDRESSES = frozenset(("url", "urls"))
"""One of these is in each table of `_NAMED`, so that a change without them is a change to a part of one."""


class TimedOverride(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A service that is switched on or off until a moment, whatever the file and the environment say."""

    enabled: bool
    since: datetime
    until: datetime
    by: str = ""
    """Name of the caller who asked for it."""
    reason: str = ""
    """Why, in the caller's words; shown while the service is off."""

    @property
    def length(self) -> timedelta:
        """How long it holds in all."""
        return max(self.until - self.since, timedelta())

    def remaining(self, now: datetime) -> timedelta:
        """How long it still holds; zero or less once it is over.

        Never longer than it was asked for: a system clock that was set back must not keep a service open.
        """
        return min(self.until - now, self.length)

    def is_moved(self, known: TimedOverride) -> bool:
        """Whether it is `known`, at other moments perhaps: the system clock was set."""
        mine, its = ((one.enabled, one.by, one.reason, one.length) for one in (self, known))
        return mine == its

    def restarted(self, now: datetime) -> TimedOverride:
        """Itself where `now` is between its start and its end; after the clock was set back, one that starts now."""
        return self if self.since <= now else msgspec.structs.replace(self, since=now, until=now + self.length)

    def moved(self, step: timedelta) -> TimedOverride:
        """The same after the system clock was set by `step`."""
        return msgspec.structs.replace(self, since=self.since + step, until=self.until + step)


class ChangeLayer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All changes. Empty where nothing was changed."""

    revision: int = 0
    """Grows by one with each change. 0 means that nothing was ever changed."""
    changed_at: datetime | None = None
    changed_by: str = ""
    changes: dict[str, Any] = {}
    """A JSON Merge Patch over the tables of the configuration file."""
    overrides: dict[str, TimedOverride] = {}
    """By name of the service."""
    parts: frozenset[KeyPath] = frozenset()
    """The places of changes to a part of something that the configuration file had."""

    def is_same_change(self, other: ChangeLayer) -> bool:
        """Whether both are of the same change. Overrides may differ: each machine ends them, by its own clock."""
        mine, others = msgspec.structs.replace(self, overrides={}), msgspec.structs.replace(other, overrides={})
        return mine == others

    def is_kept_of(self, known: ChangeLayer, now: datetime) -> bool:
        """Whether a file with this layer is what gateways keep of `known`, and nobody has edited it.

        They end overrides, and move them with the system clock, each by itself. A full disk may keep them from writing that.
        """
        if not self.is_same_change(known) or not known.overrides.keys() <= self.overrides.keys():
            return False
        own = known.overrides
        return all(
            one.is_moved(own[name]) if name in own else one.remaining(now) <= timedelta()
            for name, one in self.overrides.items()
        )

    @property
    def key(self) -> str | None:
        """The key of the event of the last change; None where nothing was ever changed.

        What takes a change back has the key of the one before.
        """
        return None if self.changed_at is None else f"configuration-{self.changed_at.astimezone(UTC).isoformat()}"

    def shifted(self, by: timedelta) -> ChangeLayer:
        """The layer with the times of its overrides on a clock that is ahead `by` so much."""
        moved = {
            name: msgspec.structs.replace(one, since=one.since + by, until=one.until + by)
            for name, one in self.overrides.items()
        }
        return msgspec.structs.replace(self, overrides=moved)

    @property
    def is_empty(self) -> bool:
        """Whether it changes nothing."""
        return not self.changes and not self.overrides

    def over(self, tables: Table) -> Table:
        """`tables` of the configuration file with the changes, but not with the orphans; `tables` stay as they are."""
        changes = self.changes
        for place in self.orphans(tables):
            changes = with_value(changes, place, MISSING)
        changed: Table = merged(tables, changes)
        return changed

    def orphans(self, tables: Table) -> list[KeyPath]:
        """The places of changes to a part of something that the configuration file no longer has."""
        return [
            (*kind, name)
            for kind in _NAMED
            for name, patch in _table_at(self.changes, kind).items()
            if isinstance(patch, dict)
            and name not in _table_at(tables, kind)
            and ((*kind, name) in self.parts or not _ADDRESSES & patch.keys())
        ]

    def active(self, now: datetime) -> dict[str, TimedOverride]:
        """The overrides that are not over."""
        return {name: one for name, one in self.overrides.items() if one.remaining(now) > timedelta()}

    def next(self, *, at: datetime, by: str, **changes: Any) -> ChangeLayer:
        """The layer after a change."""
        revision = self.revision + 1
        return msgspec.structs.replace(self, revision=revision, changed_at=at, changed_by=by, **changes)

    def encode(self) -> bytes:
        """As the file has it. It contains secrets."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    @classmethod
    def decode(cls, text: bytes, path: Path) -> ChangeLayer:
        """Raises ConfigError, with `path` as the place of its faults."""
        try:
            layer = msgspec.json.decode(text, type=cls)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            # msgspec's words could quote what it read.
            raise ConfigError([ConfigFault(str(path), "is not a file of changes that this version can read")]) from None
        naive = [name for name, one in layer.overrides.items() if None in (one.since.tzinfo, one.until.tzinfo)]
        if faults := [*_foreign_keys(layer.changes, path), *(_naive(path, name) for name in naive)]:
            raise ConfigError(faults)
        return layer


def _table_at(tables: Table, place: KeyPath) -> Mapping[str, Any]:
    found = value_at(tables, place)
    return found if isinstance(found, dict) else {}


def _naive(path: Path, name: str) -> ConfigFault:
    return ConfigFault(str(path), f"has an override of {name} whose times have no offset")


def _foreign_keys(changes: Mapping[str, Any], path: Path) -> Iterator[ConfigFault]:
    """A fault for each key that only the configuration file can set."""
    for section, value in changes.items():
        if section not in _CHANGED:
            yield ConfigFault(str(path), f"changes {section}, which only the configuration file can")
            continue
        keys = _CHANGED[section]
        if keys is None:
            continue
        for key in value if isinstance(value, dict) else [section]:
            if key not in keys:
                yield ConfigFault(str(path), f"changes {section}.{key}, which only the configuration file can")


def read_layer(path: Path) -> ChangeLayer:
    """The layer in a file; an empty one where there is no file. Raises ConfigError."""
    try:
        text = read_bytes(path, MOST_BYTES)
    except FileNotFoundError:
        return ChangeLayer()
    except FileTooLargeError:
        raise ConfigError([ConfigFault(str(path), f"has more than {MOST_BYTES} bytes")]) from None
    except OSError as error:
        message = f"cannot be read: {error.strerror or type(error).__name__}"
        raise ConfigError([ConfigFault(str(path), message)]) from None
    return ChangeLayer.decode(text, path)


def write_layer(path: Path, layer: ChangeLayer) -> None:
    """Replace the file in one step, readable by its owner only, so that it survives a power cut. Raises OSError."""
    path = replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, layer.encode())


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file of changes, which several processes write. Waits for it. Raises OSError."""
    path = replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def tidied(layer: ChangeLayer, names: frozenset[str] | set[str], *, now: datetime) -> ChangeLayer:
    """The layer without the overrides that are over and those of services that are not in `names`; the same revision."""
    kept = {name: one.restarted(now) for name, one in layer.active(now).items() if name in names}
    return layer if kept == layer.overrides else msgspec.structs.replace(layer, overrides=kept)
