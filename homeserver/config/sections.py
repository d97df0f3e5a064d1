"""Every key of hearth.toml: its type, bounds, default and what it means.

Declared once: the sample file, the checks and their messages are made from it.
"""

import ipaddress
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias

from msgspec import Meta, Struct

from federation import room_versions
from federation.ids import ServerName
from federation.room_versions import RoomVersion
from homeserver.config import checks
from homeserver.config.accounts import (
    Captcha,
    Mail,
    Passwords,
    Registration,
    Sms,
    Threepids,
)
from homeserver.config.clients import Clients, Support
from homeserver.config.login import Jwt, Ldap
from homeserver.config.media import Bucket, Media
from homeserver.config.memory import Memory
from homeserver.config.policy import PolicyServers
from homeserver.config.push import Push
from homeserver.config.reading import read, read_text, resolve
from homeserver.config.sign_on import (
    AnyProvider,
    CasProvider,
    Choice,
    OidcProvider,
    SamlProvider,
    choices,
    faults,
)
from homeserver.config.wake_ups import WakeUps

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Service: TypeAlias = Literal["client", "federation", "metrics"]


class Listen(Struct, frozen=True, kw_only=True):
    """An address to listen at. The section may be there several times."""

    bind: Annotated[
        str,
        Meta(
            description='The address; "0.0.0.0" or "::" is all of them.',
            extra={"check": checks.bind},
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int, Meta(ge=0, le=65535, description="The TCP port; 0 is any free one.")
    ] = 8008
    serves: Annotated[
        tuple[Service, ...],
        Meta(
            min_length=1,
            description="What is answered here: any of client, federation, metrics.",
        ),
    ] = ("client", "federation")
    tls_certificate: Annotated[
        str,
        Meta(
            description="The certificate and its chain, a PEM file, read again when it"
            " changes. Set with tls_key: TLS. Both empty: plain HTTP, for use behind a"
            " reverse proxy.",
            extra={"path": "file"},
        ),
    ] = ""
    tls_key: Annotated[
        str,
        Meta(
            description="The certificate's private key, a PEM file.",
            extra={"path": "file"},
        ),
    ] = ""

    def __post_init__(self) -> None:
        """Check what concerns several keys."""
        if bool(self.tls_certificate) != bool(self.tls_key):
            missing = "tls_key" if self.tls_certificate else "tls_certificate"
            raise ValueError(f"`{missing}` is missing: TLS needs both")


class Rooms(Struct, frozen=True, kw_only=True):
    """What becomes of rooms."""

    forget_on_leave: Annotated[
        bool,
        Meta(
            description="Whether rooms are forgotten for users who leave, or are made"
            " to leave: they then see nothing of them any more."
        ),
    ] = False


class Retention(Struct, frozen=True, kw_only=True):
    """How long messages are kept. What is over is deleted for good."""

    enabled: Annotated[
        bool,
        Meta(
            description="Whether rooms that ask for it in m.room.retention lose their"
            " old messages, and those that the keys below concern."
        ),
    ] = False
    default_hours: Annotated[
        int,
        Meta(
            ge=0,
            le=876_000,
            description="After how many hours messages are deleted in rooms that say"
            " nothing. 0: never.",
        ),
    ] = 0
    least_hours: Annotated[
        int,
        Meta(
            ge=0,
            le=876_000,
            description="Messages are kept at least so long, whatever a room asks for."
            " 0: no limit.",
        ),
    ] = 0
    most_hours: Annotated[
        int,
        Meta(
            ge=0,
            le=876_000,
            description="Messages are kept at most so long in rooms that ask for"
            " something. 0: no limit.",
        ),
    ] = 0

    def __post_init__(self) -> None:
        """Check what concerns several keys."""
        most = self.most_hours or self.least_hours
        default = self.default_hours or self.least_hours
        if not self.least_hours <= most or not self.least_hours <= default:
            raise ValueError("`least_hours` is more than another of the keys allows")
        if self.most_hours and self.default_hours > self.most_hours:
            raise ValueError("`default_hours` is more than `most_hours`")


class Federation(Struct, frozen=True, kw_only=True):
    """How this server talks with others."""

    enabled: Annotated[
        bool, Meta(description="false: this server keeps to itself.")
    ] = True
    verify_certificates: Annotated[
        bool,
        Meta(description="Whether other servers must show a valid certificate."),
    ] = True
    ca_file: Annotated[
        str,
        Meta(
            description="More certificate authorities to trust, a PEM file.",
            extra={"path": "file"},
        ),
    ] = ""
    allow_addresses: Annotated[
        tuple[str, ...],
        Meta(
            description="Networks outside the public internet that any outgoing request"
            ' may reach, as CIDR, such as ["127.0.0.0/8"]. All others are refused, so'
            " that nobody can look into your network through this server.",
            extra={"check": checks.networks},
        ),
    ] = ()
    trusted_key_servers: Annotated[
        tuple[str, ...],
        Meta(
            description="Servers to ask for the keys of servers that cannot be asked"
            ' themselves, such as ["matrix.org"].',
            extra={"check": checks.server_names},
        ),
    ] = ()


class Appservices(Struct, frozen=True, kw_only=True):
    """Bridges and bots that act for many users: application services."""

    registrations: Annotated[
        tuple[str, ...],
        Meta(
            description="The registration files that they come with (YAML), such as"
            ' ["irc.yaml"]. Read again when they change, or at SIGHUP. Only the url in'
            " each is ever asked, wherever that is.",
            extra={"path": "file"},
        ),
    ] = ()


class Calls(Struct, frozen=True, kw_only=True):
    """What calls of clients go over; they need it when they cannot reach each other."""

    livekit_urls: Annotated[
        tuple[str, ...],
        Meta(
            description="Where clients get their tokens for a LiveKit SFU (the"
            ' MatrixRTC authorisation service), such as ["https://rtc.example.org"],'
            " the preferred one first. Told at /rtc/transports and in .well-known.",
            extra={"check": checks.base_urls},
        ),
    ] = ()
    turn_uris: Annotated[
        tuple[str, ...],
        Meta(
            description="TURN servers for calls of two, such as"
            ' ["turn:turn.example.org?transport=udp"].',
            extra={"check": checks.turn_uris},
        ),
    ] = ()
    turn_shared_secret: Annotated[
        str,
        Meta(
            description="The secret that the TURN servers share with this one, for"
            " passwords that end by themselves."
        ),
    ] = ""
    turn_username: Annotated[
        str,
        Meta(description="A fixed name for the TURN servers, when there is no secret."),
    ] = ""
    turn_password: Annotated[str, Meta(description="The password to it.")] = ""
    turn_lifetime_s: Annotated[
        int,
        Meta(
            ge=60, le=604_800, description="How long a client may use what it is told."
        ),
    ] = 86_400

    def __post_init__(self) -> None:
        """Check what concerns several keys."""
        if bool(self.turn_username) != bool(self.turn_password):
            missing = "turn_password" if self.turn_username else "turn_username"
            raise ValueError(f"`{missing}` is missing: one goes with the other")
        if self.turn_uris and not (self.turn_shared_secret or self.turn_username):
            raise ValueError("`turn_shared_secret` is missing, or a name and password")


class Presence(Struct, frozen=True, kw_only=True):
    """Whether people see of each other who is there."""

    enabled: Annotated[
        bool,
        Meta(
            description="false: everybody is offline, and nobody is told anything else."
        ),
    ] = True


class UserDirectory(Struct, frozen=True, kw_only=True):
    """Whom people find when they search for others."""

    search_all_users: Annotated[
        bool,
        Meta(
            description="true: everybody of this server; false: those who share a room"
            " with the one who searches, or are in a public room."
        ),
    ] = False


class Limits(Struct, frozen=True, kw_only=True):
    """How much one user, address or server may ask."""

    enabled: Annotated[
        bool, Meta(description="false switches all rate limits off, for tests.")
    ] = True
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(
            description="Reverse proxies whose X-Forwarded-For header is believed, as"
            " CIDR.",
            extra={"check": checks.networks},
        ),
    ] = ("127.0.0.0/8", "::1/128")
    max_delayed_events: Annotated[
        int,
        Meta(
            ge=0,
            le=10_000,
            description="How many events a user may have scheduled for later at once;"
            " 0: none.",
        ),
    ] = 100
    max_delay_s: Annotated[
        int,
        Meta(
            ge=1,
            le=31_536_000,
            description="How many seconds ahead an event may be scheduled.",
        ),
    ] = 604_800


class Logging(Struct, frozen=True, kw_only=True):
    """What is written to standard error while serving."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="The least important that is written."),
    ] = "info"
    format: Annotated[
        Literal["text", "json"],
        Meta(description="text: lines for people; json: objects for programs."),
    ] = "text"


class Config(Struct, frozen=True, kw_only=True):
    """The whole configuration. File names in it are absolute, or empty."""

    server_name: Annotated[
        ServerName,
        Meta(
            description="The name in user IDs (@alice:NAME) and in all that is signed."
            " It cannot be changed later.",
            extra={"check": checks.server_name},
        ),
    ] = ServerName("localhost")
    data_dir: Annotated[
        str,
        Meta(
            description="Where everything is kept. Relative names here and below begin"
            " at the directory of this file.",
            extra={"check": checks.not_empty, "path": "place"},
        ),
    ] = "./data"
    database_url: Annotated[
        str,
        Meta(
            description="A PostgreSQL to use (14 or newer), as"
            " postgresql://USER:PASSWORD@HOST/DATABASE. Empty: a private one is run"
            " under data_dir.",
            extra={"check": checks.database_url},
        ),
    ] = ""
    database_replica_urls: Annotated[
        tuple[str, ...],
        Meta(
            description="Standbys of database_url that may be read for search, lists"
            " and history, as far as they have what the reader has seen. Each needs as"
            " many connections as database_url.",
            extra={"check": checks.database_urls},
        ),
    ] = ()
    database_pool_size: Annotated[
        int, Meta(ge=2, le=90, description="The most connections to the database.")
    ] = 10
    processes: Annotated[
        int,
        Meta(
            ge=1,
            le=64,
            description="How many identical processes serve; about as many as there are"
            " cores to spare. database_pool_size is for each of them.",
        ),
    ] = 1
    signing_key_file: Annotated[
        str,
        Meta(
            description="The key that signs for this server. Empty:"
            " data_dir/signing.key, made at the first start. Keep a copy of it.",
            extra={"path": "place"},
        ),
    ] = ""
    default_room_version: Annotated[
        str,
        Meta(
            description="The version of new rooms whose creator asks for none.",
            extra={"check": checks.room_version},
        ),
    ] = "12"
    public_base_url: Annotated[
        str,
        Meta(
            description="Where clients reach this server, such as"
            " https://matrix.example.org; told in .well-known. Empty: not told.",
            extra={"check": checks.base_url},
        ),
    ] = ""
    listen: tuple[Listen, ...] = (Listen(),)
    registration: Registration = Registration()
    passwords: Passwords = Passwords()
    jwt: Jwt = Jwt()
    ldap: Ldap = Ldap()
    oidc_providers: tuple[OidcProvider, ...] = ()
    cas_providers: tuple[CasProvider, ...] = ()
    saml_providers: tuple[SamlProvider, ...] = ()
    captcha: Captcha = Captcha()
    threepids: Threepids = Threepids()
    mail: Mail = Mail()
    sms: Sms = Sms()
    rooms: Rooms = Rooms()
    retention: Retention = Retention()
    federation: Federation = Federation()
    policy_servers: PolicyServers = PolicyServers()
    appservices: Appservices = Appservices()
    calls: Calls = Calls()
    push: Push = Push()
    presence: Presence = Presence()
    user_directory: UserDirectory = UserDirectory()
    clients: Clients = Clients()
    support: Support = Support()
    media: Media = Media()
    s3: Bucket = Bucket()
    limits: Limits = Limits()
    memory: Memory = Memory()
    wake_ups: WakeUps = WakeUps()
    logging: Logging = Logging()

    def __post_init__(self) -> None:
        """Check what concerns several sections."""
        seen = set()
        for number, one in enumerate(self.listen):
            if one.port and (one.bind, one.port) in seen:
                reason = f"two [[listen]] have {one.bind}, port {one.port}"
                raise ValueError(reason, "listen", number)
            seen.add((one.bind, one.port))
        if self.database_replica_urls and not self.database_url:
            reason = "`database_replica_urls` needs `database_url`: whose are they?"
            raise ValueError(reason)
        if self.mail.host and not self.public_base_url:
            reason = "`public_base_url` is missing: messages hold links to it"
            raise ValueError(reason, "mail")
        if self.registration.require_email and not self.mail.host:
            reason = "`require_email` needs [mail] with a `host`"
            raise ValueError(reason, "registration")
        if (found := faults(self.sign_on_providers)) is not None:
            raise ValueError(*found)
        if self.sign_on_choices and not self.public_base_url:
            raise ValueError("`public_base_url` is missing: people are sent back to it")
        if self.media.store == "s3" and not self.s3.bucket:
            raise ValueError("`store` needs [s3] with a `bucket`", "media")

    @classmethod
    def load(cls, path: Path | None = None) -> Self:
        """Read the file; None: the defaults, with names relative to where we are.

        Raises: ConfigError with all that is wrong.
        """
        if path is None:
            return resolve(cls(), Path.cwd())
        return read(cls, read_text(path), str(path), path.absolute().parent)

    @property
    def sign_on_choices(self) -> tuple[Choice, ...]:
        """The ways to log in elsewhere."""
        return choices(chain(*self.sign_on_providers.values()))

    @property
    def sign_on_providers(self) -> Mapping[str, Sequence[AnyProvider]]:
        """Those who say who people are, by section."""
        return {
            "oidc_providers": self.oidc_providers,
            "cas_providers": self.cas_providers,
            "saml_providers": self.saml_providers,
        }

    @property
    def data_path(self) -> Path:
        """The data directory."""
        return Path(self.data_dir)

    @property
    def signing_key_path(self) -> Path:
        """The signing key's file."""
        return Path(self.signing_key_file or self.data_path / "signing.key")

    @property
    def room_version(self) -> RoomVersion:
        """The version of new rooms."""
        return room_versions.ROOM_VERSIONS[self.default_room_version]

    @property
    def allowed_networks(self) -> tuple[Network, ...]:
        """The networks outside the public internet that may be reached."""
        return tuple(map(ipaddress.ip_network, self.federation.allow_addresses))
