"""`tentaculo reload`: has a gateway that runs read its configuration again, and prints what became of it."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from tentaculo.cli.output import FaultError, split_url
from tentaculo.config.errors import ConfigError
from tentaculo.config.own_sections import environment_token, own_addresses
from tentaculo.config.types import is_token
from tentaculo.model.text import join_names, printable
from tentaculo.net.tcp import local_url

PATH = "/tentaculo/admin/reload"
WAIT = 120.0
"""Seconds to wait for the response: with several workers the reload waits for those that are just being started."""
MOST_BODY = 16 * 1024 * 1024
_MOST_NAMES = 20
_MOST_LINE = 500


class Reply(NamedTuple):
    """A gateway's response."""

    status: int
    members: Mapping[str, Any]
    """Of the JSON object that is its body; empty where it is none."""


def reload(file: Path | None, url: str | None, token_file: Path | None, *, as_json: bool) -> bool:
    """Ask the gateway and print its response. Returns whether the new configuration is served. Raises FaultError.

    `url` is in place of the address in the configuration, and the token in `token_file` in place of the environment's.
    """
    if url is not None:
        address = url.rstrip("/")
    else:
        try:
            address = _address(own_addresses(file))
        except ConfigError as error:
            _print_faults(file, error)
            return False
    token = _token(token_file)
    reply = _ask(address, token)
    if reply.status not in (200, 422, 500) or (reply.status == 200 and "generation" not in reply.members):
        raise FaultError(_refusal(reply, address, has_token=token is not None))
    if as_json:
        click.echo(json.dumps(reply.members, ensure_ascii=False))
    else:
        for line in accepted(reply.members) if reply.status == 200 else rejected(reply.members):
            click.echo(line)
    return reply.status == 200


def accepted(report: Mapping[str, Any]) -> Iterator[str]:
    """What people read of a reload that was accepted."""
    parts = [report.get(key) for key in ("added", "removed", "changed", "changed_keys", "needs_restart")]
    nothing = "" if any(parts) else ", in which nothing has changed"
    yield f"The gateway serves generation {report.get('generation')} of its configuration{nothing}."
    for word in ("added", "removed", "changed"):
        if names := _texts(report.get(word)):
            yield f"  {word:<8} {join_names(names, _MOST_NAMES, longest=_MOST_LINE)}"
    if kept := _texts(report.get("kept")):
        yield f"  kept     {len(kept)} service{'' if len(kept) == 1 else 's'}"
    if keys := _texts(report.get("changed_keys")):
        yield f"  applied  {join_names(keys, _MOST_NAMES, longest=_MOST_LINE)}"
    for key, reason in _restarts(report.get("needs_restart")):
        yield f"  needs a restart: {key}{f' ({reason})' if reason else ''}"
    for warning in _texts(report.get("warnings")):
        yield f"warning: {printable(warning, _MOST_LINE)}"


def rejected(problem: Mapping[str, Any]) -> Iterator[str]:
    """What people read of a reload that changed nothing: the faults as `tentaculo check` prints them."""
    faults = problem.get("faults")
    for fault in faults if isinstance(faults, list) else ():
        if isinstance(fault, dict):
            yield f"{printable(str(fault.get('path')), _MOST_LINE)}: {printable(str(fault.get('message')), _MOST_LINE)}"
    yield printable(str(problem.get("detail") or problem.get("title") or "The gateway failed."), _MOST_LINE)


def _texts(value: object) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else []


def _restarts(value: object) -> Iterator[tuple[str, str]]:
    for one in value if isinstance(value, list) else ():
        if isinstance(one, dict):
            yield printable(str(one.get("key")), _MOST_LINE), printable(str(one.get("reason") or ""), _MOST_LINE)


def _address(addresses: Sequence[tuple[str, int]]) -> str:
    host, port = addresses[0]
    if port == 0:
        raise FaultError("the configuration has the gateway listen on any free port: name its address with --url")
    return local_url(host, port)


def _token(file: Path | None) -> str | None:
    if file is None:
        found = environment_token()
        token, place = (None if found is None else found.reveal()), "the environment"
    else:
        try:
            place = str(file)
            token = file.read_text(encoding="utf-8-sig").strip()
        except OSError as error:
            raise FaultError(f"{file} cannot be read: {error.strerror}") from None
        except ValueError:
            raise FaultError(f"{file} is not text") from None
    if token is not None and not is_token(token):
        raise FaultError(f"the token in {place} must be visible ASCII characters only")
    return token


def _print_faults(file: Path | None, error: ConfigError) -> None:
    """Print every fault of the configuration, since it does not even say where the gateway is."""
    from tentaculo.config.loader import load

    faults = error.faults
    try:
        load(file)
    except ConfigError as whole:
        faults = whole.faults
    for fault in faults:
        click.echo(str(fault))
    click.echo("The gateway was not asked: these faults hide its address. It serves what it served before.")


def _ask(address: str, token: str | None) -> Reply:
    parts = split_url(address)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=WAIT)
    headers = {"Accept": "application/json", "Content-Length": "0"}
    if token is not None:
        headers["X-VX11-Token"] = token
    try:
        connection.request("POST", parts.path + PATH, headers=headers)
        response = connection.getresponse()
        return Reply(response.status, _members(response.read(MOST_BODY)))
    except ConnectionRefusedError:
        raise FaultError(
            f"no gateway listens at {address}: start it, or name its address with --url if it is another one"
        ) from None
    except TimeoutError:
        raise FaultError(f"the gateway at {address} did not respond within {WAIT:g} s") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise FaultError(f"the gateway at {address} could not be asked: {reason}") from None
    finally:
        connection.close()


def _members(body: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _refusal(reply: Reply, address: str, *, has_token: bool) -> str:
    """Why the gateway did not reload, and what to do."""
    if reply.status == 401 or (reply.status == 403 and not has_token):
        return "the gateway asks for a token: set TENTACULO_TOKEN to one with the scope admin, or send SIGHUP to the gateway's process"
    if reply.status == 403:
        return (
            "this token does not have the scope admin at this gateway: `tentaculo token new` makes one"
            " that has it. SIGHUP to the gateway's process reloads without a token"
        )
    if reply.status == 200:
        return f"what listens at {address} is no gateway of this version: its response does not say what it serves"
    if reply.status in (404, 405):
        return f"what listens at {address} is no gateway of this version: it does not know {PATH}"
    detail = reply.members.get("detail") or reply.members.get("title")
    return (
        f"the gateway did not reload: {printable(str(detail), _MOST_LINE)}"
        if detail
        else (f"what listens at {address} responded with status {reply.status}")
    )
