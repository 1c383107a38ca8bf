"""The process of the demonstration's services: `python -m tentaculo.demo`.

It prints one line of JSON, `{"ports": {"madre": 8001, …}}`, once every service listens.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys

import click

from tentaculo.demo.catalogue import FLEET
from tentaculo.demo.services import DemoService, DemoServices, Ports, PortTakenError, Service


class _Parent(asyncio.Protocol):
    """Standard input. The parent process keeps it open; this process ends when it closes. Its first line is the token."""

    def __init__(self) -> None:
        self.token: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self.gone = asyncio.Event()
        self._line = b""

    def data_received(self, data: bytes) -> None:
        self._line += data
        if b"\n" in self._line and not self.token.done():
            self.token.set_result(self._line.partition(b"\n")[0].decode().strip() or None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()
        if not self.token.done():
            self.token.set_result(None)


async def serve(
    blueprints: tuple[DemoService, ...], host: str, ports: Ports, token: str | None, *, seed: str, attached: bool
) -> None:
    """Serve until SIGTERM or SIGINT. With `attached` serve until the parent has ended too."""
    loop = asyncio.get_running_loop()
    parent = _Parent()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, parent.gone.set)
    if attached:
        await loop.connect_read_pipe(lambda: parent, sys.stdin.buffer)
        token = await parent.token
    if parent.gone.is_set():
        return
    fleet = DemoServices(Service(blueprint, token=token, seed=seed) for blueprint in blueprints)
    taken = await fleet.start(host, ports)
    try:
        print(json.dumps({"ports": taken}), flush=True)
        await parent.gone.wait()
    finally:
        await fleet.close()


@click.command()
@click.option("--only", multiple=True, type=click.Choice([b.name for b in FLEET]), help="Start this service only.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--ports",
    type=click.Choice([p.value for p in Ports]),
    default=Ports.CANONICAL.value,
    show_default=True,
    help="The contract's, those or else free ones, or any free ones.",
)
@click.option(
    "--token", envvar="TENTACULO_TOKEN", help="Token that callers must send. Default: $TENTACULO_TOKEN, else none."
)
@click.option("--seed", default="vx11", show_default=True, help="Decides when the planned faults happen.")
@click.option("--shub", is_flag=True, envvar="SHUB_ENABLED", help="Start shubniggurath too. Default: $SHUB_ENABLED.")
@click.option("--attached", is_flag=True, help="Read the token from standard input, and end when that ends.")
def main(
    only: tuple[str, ...], host: str, ports: str, token: str | None, seed: str, shub: bool, attached: bool
) -> None:
    """Serve the demonstration services of Tentáculo Link without a gateway."""
    chosen = tuple(b for b in FLEET if (b.name in only if only else shub or not b.off))
    try:
        asyncio.run(serve(chosen, host, Ports(ports), token, seed=seed, attached=attached))
    except (PortTakenError, OSError) as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
