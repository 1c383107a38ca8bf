"""The mutes of incidents: stored in the database, noted in memory, and corrected when the system clock is set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from tentaculo.health.steady_clock import Correct
from tentaculo.incidents.tracker import IncidentTracker
from tentaculo.model.event import RecordOwnEvent
from tentaculo.model.mute import Mute
from tentaculo.store.client import StoreClient
from tentaculo.store.incidents import add_mute, latest_mutes, move_mute


class MuteRepository:
    """Mutes of the incidents of `incidents`. `now` is the time in UTC, and `record` takes what belongs in the log of events."""

    def __init__(
        self,
        store_client: StoreClient,
        incidents: IncidentTracker,
        now: Callable[[], datetime],
        record: RecordOwnEvent,
    ) -> None:
        self._store_client = store_client
        self._incidents = incidents
        self._now = now
        self._record = record
        self._timed: dict[int, Mute] = {}
        """Those that this process took for so many minutes, by id."""
        self._moved: dict[int, Mute] = {}
        """Those of them that are not stored as they are now."""

    def __repr__(self) -> str:
        return f"<MuteRepository: {len(self._timed)} of this process, {len(self._moved)} to be stored>"

    @property
    def is_stored(self) -> bool:
        """Whether nothing is left for `store_moved`."""
        return not self._moved

    async def add(self, incident: int, author: str, minutes: float | None) -> Mute:
        """Mute the alerts of an incident until it ends, or for so many minutes. Raises `StoreUnavailable`."""
        now = self._now()
        until = None if minutes is None else now + timedelta(minutes=minutes)
        work = partial(add_mute, incident=incident, author=author, at=now, until=until)
        made: Mute = await self._store_client.run(work)
        if until is not None:
            self._timed[made.id] = made
        self._incidents.note_mute(made)
        text = None if until is None else until.isoformat()
        self._record("incident.muted", incident=incident, author=author, until=text)
        return made

    def correct(self, moment: Correct) -> None:
        """Keep the length of each mute after the system clock was set."""
        for number, mute in self._timed.items():
            at = moment(mute.at)
            if at != mute.at and mute.until is not None:
                self._timed[number] = self._moved[number] = replace(mute, at=at, until=mute.until + (at - mute.at))
        self._note_own()

    async def store_moved(self) -> None:
        """Store those that `correct` has moved. Raises `StoreUnavailable`."""
        now = self._now()
        self._timed = {number: mute for number, mute in self._timed.items() if mute.holds(now)}
        for number, mute in list(self._moved.items()):
            await self._store_client.run(partial(move_mute, mute=mute))
            if self._moved.get(number) == mute:
                del self._moved[number]

    async def read(self) -> None:
        """Note those of open incidents, whichever process took them. Raises `StoreUnavailable`."""
        if numbers := [one.id for one in self._incidents.open]:
            found: dict[int, Mute] = await self._store_client.run(partial(latest_mutes, numbers=numbers))
            for one in found.values():
                self._incidents.note_mute(self._moved.get(one.id, one))

    def _note_own(self) -> None:
        known = {one.muted.id for one in self._incidents.open if one.muted is not None}
        for number in known & self._moved.keys():
            self._incidents.note_mute(self._moved[number])
