"""The lease: one row that says which of several machines on one PostgreSQL probes, alerts and records the fleet's events.

Its time is that of the database's clock. Its epoch fences: the holder's transactions lock the row and require their own
epoch, so that nothing is written by a machine that was suspended and has lost the lease meanwhile.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import BigInteger, ColumnElement, Connection, cast, extract, func, select, text, update

from tentaculo.store.errors import StoreUnavailable
from tentaculo.store.tables import dialect_module, lease

CHANNEL = "tentaculo_fleet"
"""The channel of PostgreSQL's notifications that the holder, the state of a service or an incident has changed."""
_ONLY_ROW = 1
_c = lease.c


class Fence(NamedTuple):
    """A lease as it was taken. What its holder writes requires it."""

    holder: str
    epoch: int


class LeaseRow(NamedTuple):
    """The lease at one moment."""

    fence: Fence
    remaining: float
    """Seconds until it ends, by the clock of the database; 0 or less where it has ended."""


class LeaseLost(StoreUnavailable):
    """Another machine has taken the lease, so that this one's transaction was refused."""

    def __init__(self) -> None:
        super().__init__("Another gateway holds the lease.")


def read_lease(connection: Connection) -> LeaseRow | None:
    """The lease; None where it was never taken."""
    row = connection.execute(select(_c.holder, _c.epoch, _c.ends_ms - database_ms())).one_or_none()
    return None if row is None else LeaseRow(Fence(row[0], row[1]), float(row[2]) / 1000)


def take_lease(connection: Connection, holder: str, length: float, *, is_restart: bool = False) -> Fence | None:
    """Take the lease for `length` seconds where it has ended or was never taken; None where it is held.

    At a restart `holder` also takes the one that an earlier process of the same name has not released.
    """
    if connection.execute(select(_c.id)).first() is None:
        first = dialect_module(connection).insert(lease).values(id=_ONLY_ROW, holder=holder, epoch=0, ends_ms=0)
        connection.execute(first.on_conflict_do_nothing())
    may_take = _c.ends_ms <= database_ms()
    if is_restart:
        may_take |= _c.holder == holder
    # Where another transaction is first, the condition is evaluated again on the row that it leaves.
    values = {"holder": holder, "epoch": _c.epoch + 1, "ends_ms": database_ms() + int(length * 1000)}
    taken = connection.execute(update(lease).where(may_take).values(values).returning(_c.epoch)).scalar_one_or_none()
    if taken is None:
        return None
    notify_fleet(connection)
    return Fence(holder, taken)


def compete(
    connection: Connection, *, holder: str, held: Fence | None, length: float, may_take: bool, is_restart: bool
) -> tuple[Fence | None, LeaseRow]:
    """Renew the lease that `holder` has `held`, or take it; returns it, None where it is another's, and the row.

    `may_take` is whether it may be taken from another holder.
    """
    if held is None or not renew_lease(connection, held, length):
        row = read_lease(connection)
        is_own = row is None or (is_restart and row.fence.holder == holder)
        held = take_lease(connection, holder, length, is_restart=is_restart) if may_take or is_own else None
    return held, read_lease(connection) or LeaseRow(Fence("", 0), 0.0)


def renew_lease(connection: Connection, fence: Fence, length: float) -> bool:
    """Move the end to `length` seconds from now; False where another holder has taken it. It may have ended meanwhile."""
    change = update(lease).where(*_is(fence)).values(ends_ms=database_ms() + int(length * 1000))
    return connection.execute(change).rowcount == 1


def release_lease(connection: Connection, fence: Fence) -> None:
    """End the lease now, so that another machine takes it at once."""
    if connection.execute(update(lease).where(*_is(fence)).values(ends_ms=0)).rowcount:
        notify_fleet(connection)


def require_lease(connection: Connection, fence: Fence) -> None:
    """Raise `LeaseLost` unless `fence` still holds. Nobody takes the lease until this transaction has ended."""
    query = select(_c.id).where(*_is(fence)).with_for_update(read=True)
    if connection.execute(query).first() is None:
        raise LeaseLost


def notify_fleet(connection: Connection) -> None:
    """Let the machines that follow look now. Does nothing on SQLite, which one machine alone uses."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"NOTIFY {CHANNEL}"))


def _is(fence: Fence) -> tuple[ColumnElement[bool], ...]:
    return _c.holder == fence.holder, _c.epoch == fence.epoch


def database_ms() -> ColumnElement[int]:
    """Milliseconds since 1970 by the clock of PostgreSQL, not the start of the transaction: it may have waited for another one's lock."""
    return cast(func.floor(extract("epoch", func.clock_timestamp()) * 1000), BigInteger)
