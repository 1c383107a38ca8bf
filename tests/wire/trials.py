"""Trials of a gateway by ambiguous requests: send them by the hundred, and judge what came of it on both sides."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.conftest import Live
from tests.wire.ambiguities import Shape
from tests.wire.readers import Message, Reading, careless_readers, read_strictly
from tests.wire.witness import Caller, Witness, echo

AT_ONCE = 250
PATIENCE = 15.0
"""Seconds after which a connection on which nothing happens has been forgotten by the gateway."""
_ODD_BUT_CLEAR = {
    "endless extension",
    "extension with blanks",
    "length as trailer",
    "coding as trailer",
    "host as trailer",
}
REFUSALS = {400, 413, 414, 431, 501}


@dataclass
class Tally:
    """How many cases of each kind there were, and what is wrong."""

    kinds: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


@dataclass
class Trial:
    """One case on its way."""

    number: int
    shape: Shape
    pieces: list[bytes]
    reading: Reading
    caller: Caller

    @property
    def may_be_refused(self) -> bool:
        """Whether a server does well to refuse what is clear: only attacks look like that."""
        shape = self.shape
        odd = shape.body in _ODD_BUT_CLEAR or shape.coding == "tab behind"
        # Behind a chunked body or an empty line, a method is taken only if aiohttp's parser knows it.
        odd = odd or shape.smuggled == b"BREW"
        return odd or shape.method == b"get" or shape.target.endswith(b"\xff") or self.reading.tail == "closed"

    def judge(self, witness: Witness) -> str:
        """What is wrong; empty if nothing is."""
        reading, caller = self.reading, self.caller
        seen = witness.by_number.pop(self.number, [])
        begun = witness.begun.pop(self.number, None)
        expected = [_view(message) for message in reading.messages]
        if caller.fault:
            return caller.fault
        answers = caller.answers
        refused = answers[-1] if answers and answers[-1].status != 200 else None
        if refused is not None:
            answers = answers[:-1]
            if refused.status not in REFUSALS or not refused.closes:
                return f"refused with {refused.status}, {'closing' if refused.closes else 'staying open'}"
        got = [_view(message) for message in seen]
        if got != expected and not (self.may_be_refused and refused and got == expected[: len(got)]):
            return f"the upstream saw {got} in place of {expected}; the answers are {caller.answers}"
        if [answer.body for answer in answers] != [_answer_to(message) for message in seen]:
            return f"the answers are {answers}"
        cut = reading.last or (reading.messages[len(seen)] if refused and len(seen) < len(reading.messages) else None)
        if begun is not None and (cut is None or _name(begun) != _name(cut)):
            return f"the upstream saw the beginning of {_name(begun)}"
        return self._judge_end(is_refused=refused is not None)

    def _judge_end(self, *, is_refused: bool) -> str:
        tail, caller = self.reading.tail, self.caller
        has_ended = caller.is_closed or bool(caller.answers and caller.answers[-1].closes)
        if is_refused and tail in ("open", "closed") and not self.may_be_refused:
            return "what is clear was refused"
        if tail == "open" and not is_refused and has_ended:
            return "the connection was closed"
        if tail == "closed" and not has_ended:
            return "the connection was kept"
        if tail == "broken head" and not is_refused:
            return "a broken head was not refused"
        if tail == "broken body" and not has_ended:
            return "the connection was kept behind a broken body"
        return ""


def _view(message: Message) -> tuple[bytes, bytes, bytes]:
    return (*_name(message), message.body)


def _name(message: Message) -> tuple[bytes, bytes]:
    return message.method, message.target.removeprefix(b"/s/").removeprefix(b"/")


def _answer_to(message: Message) -> bytes:
    return b"" if message.method == b"HEAD" else echo(message.method, message.target, message.body)


def _trial(number: int, shape: Shape) -> Trial:
    pieces = shape.pieces(number)
    reading = read_strictly(b"".join(pieces))
    # What is broken gets one answer more.
    awaited = len(reading.messages) + reading.tail.startswith("broken")
    methods = [message.method for message in reading.messages]
    caller = Caller(methods if reading.messages else [shape.method], awaited)
    return Trial(number, shape, pieces, reading, caller)


async def _settle(live: Live) -> None:
    """Send one more request, so that all that was under way has come as far as it will."""
    for _ in range(3):
        caller = Caller([b"GET"], 1)
        await caller.send(live.port, [b"GET /s/settled HTTP/1.1\r\nHost: h\r\n\r\n"])
        await asyncio.wait_for(caller.done.wait(), PATIENCE)
        caller.leave()


async def _run(trials: list[Trial], live: Live, witness: Witness, tally: Tally) -> None:
    """A few hundred cases at once."""
    await asyncio.gather(*(trial.caller.send(live.port, trial.pieces) for trial in trials))
    waiting = [trial for trial in trials if trial.caller.awaited]
    try:
        async with asyncio.timeout(PATIENCE):
            for trial in waiting:
                await trial.caller.done.wait()
    except TimeoutError:
        pass
    await _settle(live)
    for trial in trials:
        fault = trial.judge(witness)
        if trial in waiting and not trial.caller.done.is_set():
            fault = f"no answer; {fault}"
        tally.kinds[trial.reading.tail] += 1
        if fault:
            tally.faults.append(f"{trial.shape}\n  sent {trial.pieces}\n  meant {trial.reading.tail}\n  {fault}")
        trial.caller.leave()


async def hold(shapes: Iterable[Shape], live: Live, witness: Witness) -> Tally:
    """Send every shape, and judge what came of it on both sides."""
    tally = Tally()
    batch: list[Trial] = []
    for number, shape in enumerate(shapes, 1):
        batch.append(_trial(number, shape))
        if len(batch) == AT_ONCE:
            await _run(batch, live, witness, tally)
            batch = []
    if batch:
        await _run(batch, live, witness, tally)
    tally.faults += judge_bytes(witness)
    return tally


def judge_bytes(witness: Witness) -> list[str]:
    """Read all that reached the upstream once more, as careless servers would."""
    faults = [seen.fault for seen in witness.connections if seen.fault]
    readers = careless_readers()
    for seen in witness.connections:
        whole = bytes(seen.raw[: seen.position])
        strictly = [(message.method, message.target) for message in seen.messages]
        for reader in readers:
            if (carelessly := reader(whole)) != strictly:
                odd = next((i for i, pair in enumerate(carelessly) if pair not in strictly), 0)
                faults.append(f"a careless upstream reads {carelessly[max(0, odd - 1) : odd + 1]}")
        for reader in readers:
            begun = reader(bytes(seen.raw[seen.position :]))
            if any(b"smuggled" in target or b"marked" in target for _, target in begun[1:]):
                faults.append(f"a careless upstream reads {begun} in what was cut")
    return faults
