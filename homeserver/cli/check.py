"""`hearth check`: look at everything that must be right for the server to work.

Each finding says what was looked at, what was seen, and what to do when it is wrong.
"""

import asyncio
import datetime as dt
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

import aiohttp
import asyncpg
import typer
from cryptography import x509
from rich.markup import escape

from federation.ids import ServerName
from federation.signatures import SigningKey
from federation.wire.client import Limits, WireClient
from federation.wire.discovery import split
from federation.wire.errors import WireError
from federation.wire.options import WireOptions
from homeserver import signing_key
from homeserver.cli.console import out
from homeserver.cli.options import ConfigOption, config_file
from homeserver.config import Config, ConfigError, Listen
from homeserver.db import binaries, migrate, os_user, owner, postmaster
from homeserver.db.errors import DatabaseError
from homeserver.signing_key import UnusableKey

NETWORK_SECONDS: Final = 15.0
CERTIFICATE_WARNING: Final = dt.timedelta(days=14)


class Mark(Enum):
    """How a finding is."""

    GOOD = "[green]✓[/]"
    NOTE = "[yellow]•[/]"
    WRONG = "[bold red]✗[/]"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    mark: Mark
    what: str
    seen: str


def good(what: str, seen: str) -> Finding:
    """It is as it should be."""
    return Finding(Mark.GOOD, what, seen)


def note(what: str, seen: str) -> Finding:
    """It may be meant so."""
    return Finding(Mark.NOTE, what, seen)


def wrong(what: str, seen: str) -> Finding:
    """It will not work."""
    return Finding(Mark.WRONG, what, seen)


def check(
    context: typer.Context,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask nothing of the network.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Look at everything that must be right for the server to work."""
    if not asyncio.run(_check(config_file(context, config), offline=offline)):
        raise typer.Exit(1)


async def _check(file: Path | None, *, offline: bool) -> bool:
    """Print the findings; whether nothing is wrong."""
    try:
        config = Config.load(file)
    except ConfigError as error:
        show(wrong("configuration", str(error)))
        return False
    where = "the built-in defaults" if file is None else str(file)
    show(good("configuration", f"{where}, for {config.server_name}"))
    well = True
    async for finding in findings(config, offline=offline):
        show(finding)
        well = well and finding.mark is not Mark.WRONG
    return well


def show(finding: Finding) -> None:
    """Print a finding."""
    text = escape(finding.seen).replace("\n", "\n    ")
    out.print(f"{finding.mark.value} {finding.what}: {text}")


async def findings(config: Config, *, offline: bool) -> AsyncIterator[Finding]:
    """Everything there is to look at, in the order in which it matters."""
    yield await _database(config)
    for url in config.database_replica_urls:
        yield await _replica(config, url)
    yield _signing_key(config)
    for listen in config.listen:
        yield await _address(config, listen)
        if listen.tls_certificate:
            yield _certificate(config, listen)
    if offline:
        return
    if _is_local(config.server_name):
        yield note("network", f"{config.server_name} is a name for this machine only")
        return
    yield await _client_well_known(config)
    if config.federation.enabled:
        yield await _seen_by_others(config)


# ── Here ──


async def _database(config: Config) -> Finding:
    dsn = config.database_url
    if not dsn:
        announced = owner.running(config.data_path)
        if announced is None:
            return await _stopped_database(config)
        dsn = announced.dsn
    try:
        missing = await migrate.pending(dsn)
    except (DatabaseError, asyncpg.PostgresError, OSError) as error:
        return wrong("database", str(error))
    if missing:
        return note("database", f"the start will apply {', '.join(missing)}")
    return good("database", "reached, its tables are up to date")


async def _replica(config: Config, url: str) -> Finding:
    """Whether that is a standby of our database, and how far it has come."""
    what = f"replica {urlsplit(url).netloc.rpartition('@')[2]}"
    try:
        there, (of, position) = [
            await _whose(dsn) for dsn in (url, config.database_url)
        ]
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        return wrong(what, f"cannot be read: {_short(error)}")
    if there[0] != of:
        return wrong(what, "is no standby of database_url, but another database")
    behind = position - there[1]
    if behind > 0:
        return note(what, f"is behind: {behind} changes have not arrived there")
    return good(what, "has all that the database has")


async def _whose(dsn: str) -> tuple[int, int]:
    """Which cluster a database is of, and the position up to which it has come."""
    connection = await asyncpg.connect(dsn, timeout=NETWORK_SECONDS)
    try:
        row = await connection.fetchrow(
            "SELECT system_identifier, position FROM pg_control_system(), sequencer"
        )
    finally:
        connection.terminate()
    if row is None:
        raise asyncpg.PostgresError("it has no position")
    return row["system_identifier"], row["position"]


async def _stopped_database(config: Config) -> Finding:
    """What can be told of the private database while no server runs."""
    cluster = config.data_path / "postgres"
    try:
        user = os_user.choose(cluster)
        major = postmaster.major_version(cluster)
        programs = await asyncio.to_thread(binaries.find, major)
    except (DatabaseError, OSError) as error:
        return wrong("database", str(error))
    state = "will be made at the first start" if major is None else f"in {cluster}"
    who = "" if user.is_us else f", as the user {user.name}"
    return good("database", f"{programs}{who}; {state}")


def _signing_key(config: Config) -> Finding:
    path = config.signing_key_path
    try:
        mode = path.stat().st_mode & 0o777
        key = signing_key.parse(path.read_text("ascii"), path)
    except FileNotFoundError:
        return note("signing key", f"{path} will be made at the first start")
    except OSError as error:
        return wrong("signing key", f"{path} cannot be read: {error.strerror}")
    except (UnusableKey, UnicodeDecodeError) as error:
        return wrong("signing key", str(error))
    if mode & 0o077:
        return wrong(
            "signing key", f"others can read {path}: close it with 'chmod 600 {path}'"
        )
    return good("signing key", f"{key.key_id} in {path}")


async def _address(config: Config, listen: Listen) -> Finding:
    """Whether the address is free, or taken by our own server."""
    what = f"address {listen.bind} port {listen.port}"
    try:
        server = await asyncio.start_server(
            lambda *_: None, listen.bind, listen.port, start_serving=False
        )
    except OSError as error:
        if await asyncio.to_thread(owner.is_held, config.data_path):
            return good(what, "taken, and the server runs")
        return wrong(what, f"cannot be used: {error.strerror or error}")
    server.close()
    await server.wait_closed()
    return good(what, f"free, for {', '.join(listen.serves)}")


def _certificate(config: Config, listen: Listen) -> Finding:
    what = f"certificate {listen.tls_certificate}"
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(listen.tls_certificate, listen.tls_key)
        pem = Path(listen.tls_certificate).read_bytes()
        certificate = x509.load_pem_x509_certificate(pem)
    except (OSError, ssl.SSLError, ValueError) as error:
        return wrong(what, f"does not go with {listen.tls_key}: {error}")
    left = certificate.not_valid_after_utc - dt.datetime.now(dt.UTC)
    names = list(_names(certificate))
    day = certificate.not_valid_after_utc.date()
    if left < dt.timedelta():
        return wrong(what, f"ended on {day}")
    if left < CERTIFICATE_WARNING:
        return note(what, f"ends on {day}")
    host = split(config.server_name).host
    if not any(_covers(name, host) for name in names):
        told = ", ".join(names)
        return note(what, f"is for {told}; without delegation others expect {host}")
    return good(what, f"for {', '.join(names)}, until {day}")


def _names(certificate: x509.Certificate) -> Iterator[str]:
    try:
        found = certificate.extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
    except x509.ExtensionNotFound:
        return
    yield from found.value.get_values_for_type(x509.DNSName)
    yield from map(str, found.value.get_values_for_type(x509.IPAddress))


def _covers(name: str, host: str) -> bool:
    if name.startswith("*."):
        return host.partition(".")[2].lower() == name[2:].lower()
    return name.lower() == host.lower()


# ── Out there ──


def _is_local(server_name: ServerName) -> bool:
    place = split(server_name)
    if place.address is not None:
        return place.address.is_loopback
    return place.host == "localhost" or place.host.endswith(".localhost")


async def _client_well_known(config: Config) -> Finding:
    """What clients find when they are given the server name alone."""
    host = split(config.server_name).host
    url = f"https://{host}/.well-known/matrix/client"
    what = "clients find it"
    timeout = aiohttp.ClientTimeout(total=NETWORK_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url) as reply,
        ):
            if reply.status != 200:
                return note(what, f"{url} answers {reply.status}: see README.md")
            told = await reply.json(content_type=None)
            base = str(told["m.homeserver"]["base_url"])
    except (
        aiohttp.ClientError,
        TimeoutError,
        ValueError,
        KeyError,
        TypeError,
    ) as error:
        return note(what, f"{url}: {_short(error)}; see README.md")
    wanted = config.public_base_url.rstrip("/")
    if wanted and base.rstrip("/") != wanted:
        return wrong(what, f"{url} says {base}, and public_base_url is {wanted}")
    return good(what, f"at {base}, by {url}")


async def _seen_by_others(config: Config) -> Finding:
    """Find the server as another server would, and ask it for its version."""
    what = "other servers find it"
    options = WireOptions(
        verify_certificates=config.federation.verify_certificates,
        ca_file=config.federation.ca_file or None,
        allow_addresses=config.allowed_networks,
    )
    asker = ServerName("check.invalid")
    client = WireClient(asker, SigningKey.generate("check"), options)
    try:
        route = await client.discovery.route_to(config.server_name)
        places = ", ".join(f"{e.address} port {e.port}" for e in route.endpoints)
        _ = await client.request(
            config.server_name,
            "GET",
            "/_matrix/federation/v1/version",
            signed=False,
            limits=Limits(seconds=NETWORK_SECONDS),
        )
    except WireError as error:
        return wrong(what, f"{error}; see README.md")
    finally:
        await client.close()
    return good(what, f"at {places}")


def _short(error: BaseException) -> str:
    return (str(error) or type(error).__name__)[:200]
