"""What the commands `tentaculo token …` do. They change the token file, and read the database for last uses.

Each reports every fault at once, and changes nothing then.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from tentaculo.cli.output import Duration, FaultError, StartError, warn
from tentaculo.cli.token_sentences import is_over
from tentaculo.config.accepted_tokens import TokenSettings, format_moment, is_token_name
from tentaculo.config.environment import database_url
from tentaculo.config.errors import ConfigError
from tentaculo.config.loader import load_usable
from tentaculo.config.own_sections import own_sections
from tentaculo.config.schema import Config
from tentaculo.model.scopes import PLAIN, is_scope, unknown_services
from tentaculo.model.text import utc_now
from tentaculo.security.token_file import TokenFile, TokenFileError, accepted_tokens, edit, make_token, token_file
from tentaculo.security.tokens import fingerprint_of, hash_token, name_of, token_row

_EFFECT = "A gateway that runs {what} within two seconds; one that does not run, when it starts."


def make(
    file: Path | None,
    name: str | None,
    scopes: Sequence[str] | None,
    expires: str | None,
    *,
    keeps: bool,
    as_json: bool = False,
) -> None:
    """Make a token. Without `keeps` it is printed for a configuration. Raises ConfigError, FaultError, StartError."""
    now = utc_now()
    faults = [] if name is None or is_token_name(name) else [_BAD_NAME]
    faults += _scope_faults(scopes or ())
    ends_at = _moment(expires, now, "--expires", faults)
    config = _config(file, faults) if keeps else None
    made, settings = _made(name, None if scopes is None else tuple(dict.fromkeys(scopes)), now, ends_at)
    if config is None:
        _refuse(faults)
        _print_for_configuration(made, settings, is_plain=(name, scopes, expires) == (None, None, None))
        return
    with _editing(config, faults) as kept:
        if any(one.name == name and not is_over(one, now) for one in kept.tokens):
            faults.append(
                f"there is a token called {name}: `tentaculo token rotate {name}` makes another one in its place"
            )
        _refuse(faults)
        kept.add(settings)
        kept.write()
    _print_made(made, settings, as_json=as_json)
    if not as_json:
        click.echo(_EFFECT.format(what="accepts it"))
    # Where the services are faulty, `tentaculo check` says so.
    with suppress(ConfigError):
        for scope in unknown_services(scopes or (), load_usable(file).config.names):
            warn(f"{scope} names a service that is not configured")


def show(file: Path | None, *, as_json: bool) -> None:
    """Print the accepted tokens. Raises ConfigError and StartError."""
    config = _config(file)
    now = utc_now()
    uses, problem = _uses(config)
    rows: list[dict[str, Any]] = [token_row(one, uses.get(fingerprint_of(one.hash)), now) for one in _accepted(config)]
    if as_json:
        click.echo(json.dumps({"tokens": rows, "problem": problem}, ensure_ascii=False))
        return
    if not rows:
        click.echo("There is no token. The first start of the gateway makes one.")
    for row in rows:
        scopes = ", ".join(row["scopes"]) if row["scopes"] is not None else "all but admin"
        used = row["last_used_at"] or ("unknown" if problem else "never")
        ends = "never" if row["expires"] is None else row["expires"] + (" (expired)" if row["expired"] else "")
        click.echo(f"{row['name']}  {row['id']}")
        click.echo(f"  scopes     {scopes}")
        click.echo(f"  expires    {ends}")
        click.echo(f"  last used  {used}")
        click.echo(f"  from       {row['source']}")
    if problem:
        warn(f"the last uses cannot be read: {problem}")


def revoke(file: Path | None, name: str) -> None:
    """Remove tokens from the token file. Raises ConfigError, FaultError and StartError."""
    config = _config(file)
    with _editing(config) as kept:
        chosen = _chosen(kept.tokens, name)
        if not chosen:
            _refuse([_not_there(config, name)])
        for one in chosen:
            kept.remove(one)
        kept.write()
    count = "" if len(chosen) == 1 else f" ({len(chosen)} tokens)"
    click.echo(f"{name_of(chosen[0])} is revoked{count}. {_EFFECT.format(what='refuses it')}")
    if rest := [one for one in _accepted(config) if name_of(one) == name_of(chosen[0])]:
        warn(f"another token of this name is accepted: {', '.join(one.source for one in rest)}")


def rotate(file: Path | None, name: str, grace: str, expires: str | None, *, as_json: bool) -> None:
    """Put a new token in the place of those of a name. Raises ConfigError, FaultError and StartError."""
    now = utc_now()
    faults: list[str] = []
    until = _moment(grace, now, "--grace", faults)
    ends_at = _moment(expires, now, "--expires", faults)
    config = _config(file, faults)
    with _editing(config, faults) as kept:
        chosen = _chosen(kept.tokens, name)
        if not chosen:
            faults.append(_not_there(config, name))
        _refuse(faults)
        assert until is not None
        # The newest one says what the next one may do.
        newest = chosen[-1]
        if ends_at is None and newest.expires is not None:
            ends_at = newest.expires
            if newest.created is not None:
                # One that ends with the calendar keeps its end.
                with suppress(OverflowError):
                    ends_at = now + (newest.expires - newest.created)
        if ends_at is not None and ends_at <= now:
            _refuse([f"{name} has expired, and it is not known how long it was to last: give --expires"])
        made, settings = _made(name_of(newest), newest.scopes, now, ends_at)
        ended = [one.replace(expires=until) if one.expires is None or one.expires > until else one for one in chosen]
        for one in ended:
            kept.put(one)
        kept.add(settings)
        kept.write()
    _print_made(made, settings, as_json=as_json)
    if not as_json:
        last = max(one.expires for one in ended if one.expires is not None)
        end = f"ends at {format_moment(last)}" if last > now else "has expired"
        click.echo(f"The old one {end}. {_EFFECT.format(what='accepts the new one')}")


def _config(file: Path | None, known: Sequence[str] = ()) -> Config:
    """What tokens need of the configuration; a fault elsewhere must keep nobody from revoking one.

    Raises ConfigError; FaultError where there are `known` faults too.
    """
    try:
        return own_sections(file, "auth", "database")
    except ConfigError as error:
        _refuse([*known, *map(str, error.faults)] if known else ())
        raise


_BAD_NAME = "the name must be letters, digits, dots, hyphens and underscores, 1 to 64 of them"


def _made(
    name: str | None, scopes: tuple[str, ...] | None, now: datetime, ends_at: datetime | None
) -> tuple[str, TokenSettings]:
    made = make_token()
    return made, TokenSettings(hash=hash_token(made), name=name, scopes=scopes, created=now, expires=ends_at)


def _scope_faults(scopes: Sequence[str]) -> list[str]:
    allowed = f"{', '.join(PLAIN)}, proxy:SERVICE or heartbeat:SERVICE"
    return [f"scope {number} is not one of {allowed}" for number, scope in enumerate(scopes, 1) if not is_scope(scope)]


def _moment(text: str | None, now: datetime, option: str, faults: list[str]) -> datetime | None:
    """The time that a duration from now or a time says, to the second."""
    if text is None:
        return None
    found: datetime | None = None
    try:
        found = now + timedelta(seconds=Duration().convert(text, None, None))
    except (click.BadParameter, OverflowError):
        with suppress(ValueError, OverflowError):
            given = datetime.fromisoformat(text if "T" in text else "")
            found = given.astimezone(UTC) if given.tzinfo is not None else None
    if found is None:
        faults.append(f"{option} must be a duration such as 90d or 10m, or a time such as 2027-12-01T00:00:00Z")
        return None
    if found <= now and option == "--expires":
        faults.append(f"{option} is a time that is over")
    return found.replace(microsecond=0)


def _refuse(faults: Sequence[str]) -> None:
    if faults:
        raise FaultError("; ".join(faults) if len(faults) == 1 else "".join(f"\n  {fault}" for fault in faults))


@contextmanager
def _editing(config: Config, known: Sequence[str] = ()) -> Iterator[TokenFile]:
    """The token file for a change. Its own faults are said together with the `known` ones of the command."""
    path = token_file(config)
    try:
        with edit(path) as kept:
            yield kept
    except OSError as error:
        raise StartError(f"{path} cannot be changed: {error.strerror}") from error
    except TokenFileError as error:
        _refuse([*known, str(error)])


def _accepted(config: Config) -> list[TokenSettings]:
    try:
        return accepted_tokens(config)
    except (OSError, TokenFileError) as error:
        raise StartError(f"the token file cannot be read: {error}") from error


def _chosen(tokens: Sequence[TokenSettings], name: str) -> list[TokenSettings]:
    """The tokens of a name, else the one of an id."""
    return [one for one in tokens if name_of(one) == name] or [
        one for one in tokens if _id_of(one) == name.lower() or fingerprint_of(one.hash) == name.lower()
    ]


def _not_there(config: Config, name: str) -> str:
    """Why there is nothing to change."""
    path = token_file(config)
    elsewhere = _chosen(_accepted(config), name)
    if not elsewhere:
        return f"{path} has no token of this name or id; `tentaculo token list` shows those that are accepted"
    sources = ", ".join(one.source for one in elsewhere)
    return f"the token is from {sources}, not from {path}: change it there, and have the gateway read it"


def _id_of(token: TokenSettings) -> str:
    return fingerprint_of(token.hash)[:8]


def _uses(config: Config) -> tuple[Mapping[str, int], str | None]:
    """The seconds since the last use of each token, and why they are not known."""
    from tentaculo.store.database import once
    from tentaculo.store.errors import StoreUnavailable
    from tentaculo.store.token_uses import last_uses

    try:
        return once(database_url(config), last_uses), None
    except StoreUnavailable as error:
        return {}, error.detail or error.failure.title


def _print_made(made: str, settings: TokenSettings, *, as_json: bool) -> None:
    if as_json:
        row = token_row(settings, None, utc_now())
        click.echo(json.dumps({"token": made, **{key: row[key] for key in ("name", "id", "scopes", "expires")}}))
        return
    click.echo(f"The token {name_of(settings)}, shown only once:\n\n  {made}\n")


def _print_for_configuration(made: str, settings: TokenSettings, *, is_plain: bool) -> None:
    click.echo(f"The token, shown only once:\n\n  {made}\n")
    if is_plain:
        click.echo(f'For tentaculo.toml, below [auth]:\n\n  tokens = ["{settings.hash}"]')
        return
    # `serve` imports this module, and has no use for it.
    from tentaculo.config.key_reference import format_toml

    click.echo("For tentaculo.toml:\n\n  [[auth.tokens]]")
    for key in ("hash", "name", "scopes", "created", "expires"):
        value = getattr(settings, key)
        if value is not None:
            click.echo(f"  {key} = {format_toml(value.replace(microsecond=0) if key == 'created' else value)}")
