"""Starts the gateway: prepares the token, the database schema, or the demonstration, then runs the event loop."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import TYPE_CHECKING, Any

import click
import structlog

from tentaculo import __version__
from tentaculo.cli.output import StartError, warn
from tentaculo.cli.token_sentences import accepted_lines, ends_soon
from tentaculo.config.accepted_tokens import AcceptedTokens, TokenSettings
from tentaculo.config.environment import (
    child_environment,
    is_sqlite,
    process_environment,
    read,
    take_inherited_descriptors,
    take_notification_socket,
)
from tentaculo.config.errors import ConfigFault
from tentaculo.config.loader import Loaded, load_tables, load_usable
from tentaculo.config.schema import Config
from tentaculo.config.storage import DatabaseSettings
from tentaculo.gateway.configuration_source import ConfigurationSource, with_address
from tentaculo.model.text import utc_now
from tentaculo.net.systemd_notify import ServiceManager
from tentaculo.security.token_file import TokenFileError, accepted_tokens, keep_token, make_token, token_file
from tentaculo.security.tokens import hash_token
from tentaculo.server.handover import Handover, HandoverFailed, Predecessor, ProcessContext
from tentaculo.server.listeners import CannotListenError, ListeningAddresses, connection_limit
from tentaculo.server.listening_sockets import InheritedSockets, Sockets, UnusableSocketError, open_sockets
from tentaculo.tasks import TaskGroup

if TYPE_CHECKING:
    from tentaculo.demo.process import Demo


_NO_THREAD = "can't start new thread"
"""What Python says where the limit of this user, or of the container, is reached."""
_DEMO_PATH = "/madre/tasks"


def serve(file: Path | None, host: str | None, port: int | None) -> None:
    """Run the gateway until a signal stops it. Without a configuration, run the demonstration.

    Raises ConfigError and StartError.
    """
    context = _take_over()
    source = ConfigurationSource(file, host=host, port=port, verify=_refused)
    loaded = source.load(load_usable)
    if loaded.path is None and not loaded.config.services:
        click.echo("There is no tentaculo.toml in this folder: this is the built-in demonstration.")
        click.echo("`tentaculo init` writes a configuration.")
        _serve_demo(loaded, host, port, context.manager)
        return
    _warn_of(loaded)
    config = loaded.config
    hashes, token = _accepted_tokens(config, source)
    example = next((f"/{service.name}/health" for service in config.services.values() if service.enabled), None)

    def ready(running: ListeningAddresses) -> None:
        accepted = accepted_lines(hashes) if config.auth.enabled else ()
        _announce((*_ready_lines(running, config, token, example), *(f"  accepts       {line}" for line in accepted)))
        context.manager.ready(_summary(running, config))

    for warning in ends_soon(hashes, utc_now()):
        warn(warning)

    if config.server.workers > 1:
        _supervise(config, hashes, ready, loaded.path, context, source)
    elif not context.inherited.sockets:
        _run(_serve_upgraded(config, hashes, ready, loaded.path, context, source))
    else:
        with _report_start_errors(), open_sockets(config.server.addresses, 1, context.inherited) as sockets:
            _run(_serve_upgraded(config, hashes, ready, loaded.path, context, source, sockets))


def demo(host: str | None, port: int | None) -> None:
    """Run the gateway with the services of the demonstration. No configuration file is read."""
    manager = ServiceManager(take_notification_socket())
    _serve_demo(load_tables({}, process_environment(), folder=Path.cwd()), host, port, manager)


def _refused(loaded: Loaded) -> Iterator[ConfigFault]:
    """As `refused_channels`, which is loaded where there are any."""
    if loaded.config.alerts.apprise:
        from tentaculo.cli.check import refused_channels

        yield from refused_channels(loaded)


def _take_over() -> ProcessContext:
    """What this process has from its predecessor or its service manager, and how it is replaced itself."""
    manager = ServiceManager(take_notification_socket())
    descriptors = take_inherited_descriptors()
    command, environment = [sys.executable, *sys.orig_argv[1:]], process_environment()
    try:
        if descriptors.handover is not None:
            predecessor = Predecessor(descriptors.handover)
            inherited = predecessor.inherited
        else:
            predecessor, inherited = None, InheritedSockets.activated(descriptors.listening)
    except (HandoverFailed, UnusableSocketError) as error:
        raise StartError(str(error)) from error
    handover = Handover(command, environment, manager, is_activated=inherited.is_activated)
    return ProcessContext(manager, handover, predecessor, inherited)


def _serve_demo(loaded: Loaded, host: str | None, port: int | None, manager: ServiceManager) -> None:
    try:
        temporary = TemporaryDirectory(prefix="tentaculo-demo-")
        # The migration's process must not read a configuration that happens to lie in the working directory.
        file = Path(temporary.name, "tentaculo.toml")
        file.write_text("# The demonstration's configuration is made in memory.\n", encoding="utf-8")
    except OSError as error:
        reason = f"the demonstration can write no temporary files: {error.strerror}"
        raise StartError(f"{reason}. TMPDIR names another folder for them") from error
    with temporary as folder:
        _warn_of(loaded)
        config = with_address(loaded.config, host, port).replace(folder=Path(folder), database=DatabaseSettings())
        config = config.replace(server=config.server.replace(workers=1))
        _run(_demonstrate(config, file, manager))


async def _serve_upgraded(
    config: Config,
    hashes: AcceptedTokens,
    ready: Callable[[ListeningAddresses], None],
    file: Path | None,
    context: ProcessContext,
    source: ConfigurationSource | None = None,
    sockets: Sockets = (),
) -> None:
    from tentaculo.gateway import process

    upgrade = SchemaUpgrade.of(config, file)
    try:
        await process.serve(
            config,
            hashes=hashes,
            ready=ready,
            sockets=sockets,
            prepare_store=upgrade.start if upgrade is not None else None,
            context=context,
            keeps_sockets=context.inherited.is_activated,
            source=source,
        )
    finally:
        if upgrade is not None:
            await upgrade.close()


async def _demonstrate(config: Config, file: Path, manager: ServiceManager) -> None:
    from tentaculo.demo.process import Demo, DemoError

    try:
        await _with_fleet(Demo(), config, file, manager)
    except DemoError as error:
        raise StartError(str(error)) from error


async def _with_fleet(demo: Demo, config: Config, file: Path, manager: ServiceManager) -> None:
    async with demo as fleet:
        made = Config.of(fleet.config_data)
        config = config.replace(auth=made.auth, services=made.services)

        def ready(running: ListeningAddresses) -> None:
            _announce(_ready_lines(running, config, fleet.token, _DEMO_PATH))
            manager.ready(_summary(running, config))

        await _serve_upgraded(config, accepted_tokens(config), ready, file, ProcessContext(manager))


def _run(work: Coroutine[Any, Any, None]) -> None:
    import uvloop

    with _report_start_errors():
        uvloop.run(work)


def _supervise(
    config: Config,
    hashes: AcceptedTokens,
    ready: Callable[[ListeningAddresses], None],
    file: Path | None,
    context: ProcessContext,
    source: ConfigurationSource,
) -> None:
    from tentaculo.workers.supervising import supervise
    from tentaculo.workers.supervisor import WorkersFailed

    with _report_start_errors():
        try:
            supervise(config, hashes, ready, lambda: SchemaUpgrade.of(config, file), context, source)
        except WorkersFailed as error:
            raise StartError(f"the workers cannot be started: {error}") from error


@contextmanager
def _report_start_errors() -> Iterator[None]:
    try:
        yield
    except CannotListenError as error:
        raise StartError(f"cannot listen on {error.address}: {error.strerror}") from error
    except RuntimeError as error:
        if str(error) != _NO_THREAD:
            raise
        raise StartError("no thread can be started: the limit of processes and threads is reached") from error


def _warn_of(loaded: Loaded) -> None:
    _, shortage = connection_limit(loaded.config.limits.connections)
    for warning in (*loaded.warnings, *([shortage] if shortage else [])):
        warn(warning)


def _accepted_tokens(config: Config, source: ConfigurationSource) -> tuple[list[TokenSettings], str | None]:
    """The accepted tokens, and the new one itself if there was none."""
    try:
        tokens = accepted_tokens(config)
    except (OSError, TokenFileError) as error:  # it was read before, and has changed since
        raise StartError(f"the token file cannot be read: {error}") from error
    if tokens or not config.auth.enabled:
        return tokens, None
    token = make_token()
    file = token_file(config)
    made = TokenSettings(hash=hash_token(token))
    try:
        keep_token(file, made)
        made = made.replace(source=f"{file}, line 2")
        aside = f"; its hash is kept in {file}"
    except OSError as error:
        warn(f"{file} cannot be written ({error.strerror}): this token is valid until the gateway stops")
        source.spare_hashes = (hash_token(token),)
        aside = ""
    click.echo(f"There was no token, so the gateway made one. It is shown only once{aside}.")
    click.echo(f"\n  {token}\n")
    return [made], token


def _summary(running: ListeningAddresses, config: Config) -> str:
    """What `systemctl status` shows."""
    return f"serves {len(config.services)} service{'' if len(config.services) == 1 else 's'} at {running.url}"


def _ready_lines(running: ListeningAddresses, config: Config, token: str | None, example: str | None) -> Iterator[str]:
    url = running.url
    off = [service.name for service in config.services.values() if not service.enabled]
    aside = f" ({', '.join(off)} off on purpose)" if off else ""
    count = len(config.services)
    by = f", with {config.server.workers} workers" if config.server.workers > 1 else ""
    yield f"Tentáculo Link {__version__} serves {count} {'service' if count == 1 else 'services'}{aside}{by}."
    yield f"  status page   {url}/status"
    if example is None:
        return
    shown = token or ("$TENTACULO_TOKEN" if read(process_environment(), "TENTACULO_TOKEN") else "<token>")
    header = f'-H "X-VX11-Token: {shown}" ' if config.auth.enabled else ""
    yield f"  call one      curl {header}{url}{example}"


def _announce(lines: Iterable[str]) -> None:
    """Print `lines` once requests are served, in a thread: who reads standard output may have stopped, or be gone."""
    text = "".join(f"{line}\n" for line in lines)
    with suppress(RuntimeError):  # no thread can be started now
        Thread(target=_print, args=(text,), name="announcement", daemon=True).start()


def _print(text: str) -> None:
    # Not by `sys.stdout`: the end of the process would wait for its lock, and abort.
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        os.write(sys.stdout.fileno(), text.encode(sys.stdout.encoding, "replace"))


log = structlog.get_logger(__name__)

TIMEOUT = 3600.0
"""Seconds until an attempt to upgrade the schema is given up: gigabytes take minutes, and the next one starts again."""
PATIENCE = 5.0
"""Seconds that a start waits for the first attempt to upgrade the schema. Requests are served meanwhile."""
FIRST_RETRY, LAST_RETRY = 1.0, 60.0
"""Seconds before the second attempt, and between two attempts at most."""


class SchemaUpgrade:
    """Runs `tentaculo db upgrade` until it succeeds, so that the gateway itself never loads Alembic."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        """`command` upgrades the schema and ends with 0. After a failure the last line of its errors is the reason."""
        self._command = command
        self._env = env
        self._tasks = TaskGroup("schema upgrade")
        self._tried = asyncio.Event()

    def __repr__(self) -> str:
        return f"<SchemaUpgrade: {' '.join(self._command)}>"

    @classmethod
    def of(cls, config: Config, file: Path | None) -> SchemaUpgrade | None:
        """The upgrade of the configured database; None if `database.auto_upgrade` is off."""
        wanted = config.database.auto_upgrade
        if not (is_sqlite(config) if wanted is None else wanted):
            return None
        command = [sys.executable, "-m", "tentaculo", "db", "upgrade"]
        if file is not None:
            command += ["-c", str(file)]
        return cls(command, child_environment(config))

    async def start(self) -> None:
        """Start, and wait up to `PATIENCE` seconds for the first attempt to end."""
        self._tasks.start(self._run(), "run")
        try:
            await asyncio.wait_for(self._tried.wait(), PATIENCE)
        except TimeoutError:
            log.info("database schema upgrade takes long", after=PATIENCE)

    async def close(self) -> None:
        """End the attempts, also one that runs."""
        await self._tasks.close()

    async def _run(self) -> None:
        pause = FIRST_RETRY
        while (reason := await self._attempt()) is not None:
            log.warning("database schema not upgraded", reason=reason, again_in=pause)
            self._tried.set()
            await asyncio.sleep(pause)
            pause = min(2 * pause, LAST_RETRY)
        self._tried.set()

    async def _attempt(self) -> str | None:
        """The reason why the schema was not upgraded; None if it was."""
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command, env=self._env, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE
            )
        except OSError as error:
            return f"no process can be started: {error.strerror}"
        try:
            _, errors = await asyncio.wait_for(process.communicate(), TIMEOUT)
        except TimeoutError:
            return f"it took longer than {TIMEOUT:g} s"
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode == 0:
            return None
        lines = errors.decode(errors="replace").strip().splitlines()
        return lines[-1].removeprefix("Error: ").rstrip(".") if lines else f"it ended with {process.returncode}"
