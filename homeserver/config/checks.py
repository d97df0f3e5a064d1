"""What a value must be beyond its type. A check raises ValueError with the reason."""

import ipaddress
import re
from collections.abc import Sequence
from datetime import date
from typing import Final
from urllib.parse import urlsplit

from federation import room_versions
from federation.errors import Malformed
from federation.ids import parse_server_name, parse_user_id
from federation.signatures import decode_base64

_HOST_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.\-]{0,253}[A-Za-z0-9])?")

_KEY_BYTES: Final = 32
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.\-]{1,61}[a-z0-9]")
_REGION: Final = re.compile(r"[A-Za-z0-9\-]{1,64}")
_PREFIX: Final = re.compile(r"([A-Za-z0-9._\-][A-Za-z0-9._\-/]{0,200}/)?")
_EMAIL: Final = re.compile(r"[^@\s]{1,64}@[^@\s]{1,255}")
_SIZE: Final = re.compile(r"([0-9]{1,12})([KMGT]?)")
_UNITS: Final = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def server_name(value: str) -> None:
    """A server name. Spec: appendices#server-name."""
    try:
        parse_server_name(value)
    except Malformed as error:
        raise ValueError(str(error)) from None


def server_names(values: Sequence[str]) -> None:
    """A list of server names."""
    for value in values:
        server_name(value)


def ed25519_key(value: str) -> None:
    """Empty, or a public key of Ed25519."""
    if not value:
        return
    try:
        raw = decode_base64(value)
    except Malformed:
        raise ValueError("it is not base64") from None
    if len(raw) != _KEY_BYTES:
        raise ValueError(f"it has {len(raw)} bytes, an Ed25519 key has {_KEY_BYTES}")


def not_empty(value: str) -> None:
    """Any text."""
    if not value.strip():
        raise ValueError("it must not be empty")


def database_url(value: str) -> None:
    """Empty, or what asyncpg can connect to: at one host, or at one of several."""
    if not value:
        return
    if not value.startswith(("postgresql://", "postgres://")):
        raise ValueError("it must begin with postgresql://")
    try:
        parts = urlsplit(value)
        hosts = parts.netloc.rpartition("@")[2].split(",")
        for host in hosts:
            _ = urlsplit(f"//{host}").port
    except ValueError as error:
        raise ValueError(f"it is not a URL: {error}") from None
    if not parts.path.strip("/"):
        raise ValueError("it must end with the name of a database")
    if len(hosts) > 1 and "target_session_attrs=" not in parts.query:
        raise ValueError(
            "of several hosts, one takes writes: end it with"
            " ?target_session_attrs=read-write"
        )


def database_urls(values: Sequence[str]) -> None:
    """A list of databases, each at one host."""
    for value in values:
        not_empty(value)
        database_url(value)
        if "," in urlsplit(value).netloc.rpartition("@")[2]:
            raise ValueError("name one host in each, or it is unclear which is read")


def base_url(value: str) -> None:
    """Empty, or an HTTP URL to which paths can be added."""
    if not value:
        return
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"it is not a URL: {error}") from None
    if not good or parts.query or parts.fragment or parts.username is not None:
        raise ValueError("it must look like https://matrix.example.org")


def base_urls(values: Sequence[str]) -> None:
    """A list of HTTP URLs to which paths can be added."""
    for value in values:
        not_empty(value)
        base_url(value)


def nats_urls(values: Sequence[str]) -> None:
    """Addresses of NATS servers."""
    for value in values:
        try:
            parts = urlsplit(value)
            good = parts.scheme in ("nats", "tls") and bool(parts.hostname)
            _ = parts.port
        except ValueError as error:
            raise ValueError(f"it is not a URL: {error}") from None
        if not good or parts.username is not None:
            raise ValueError("it must look like nats://10.0.0.5:4222")
    if len({value.partition(":")[0] for value in values}) > 1:
        raise ValueError("all of them must be nats:// or all tls://")


def page_url(value: str) -> None:
    """Empty, or the URL of a page."""
    if not value:
        return
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"it is not a URL: {error}") from None
    if not good or parts.username is not None:
        raise ValueError("it must look like https://example.org/page")


def user_id(value: str) -> None:
    """Empty, or a Matrix ID."""
    if not value:
        return
    try:
        parse_user_id(value)
    except Malformed as error:
        raise ValueError(str(error)) from None


def email(value: str) -> None:
    """Empty, or what may be an email address."""
    if value and not _EMAIL.fullmatch(value):
        raise ValueError("it must look like admin@example.org")


def turn_uris(values: Sequence[str]) -> None:
    """A list of URIs of TURN servers."""
    for value in values:
        if not value.startswith(("turn:", "turns:")):
            raise ValueError(f"{value!r} must begin with turn: or turns:")


def room_version(value: str) -> None:
    """A room version that is built."""
    if room_versions.find(value) is None:
        known = ", ".join(room_versions.ROOM_VERSIONS)
        raise ValueError(f"there is no room version {value!r}; there are {known}")


def networks(values: Sequence[str]) -> None:
    """A list of networks as CIDR."""
    for value in values:
        try:
            ipaddress.ip_network(value)
        except ValueError as error:
            mended = _network_around(value)
            hint = f"; did you mean {mended!r}?" if mended else ""
            raise ValueError(f"{error}{hint}") from None


def _network_around(value: str) -> str | None:
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        return None


def bind(value: str) -> None:
    """An IP address or a host name."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        if not _HOST_NAME.fullmatch(value):
            raise ValueError(f"{value!r} is no address") from None


def parse_size(value: str) -> int:
    """A number of bytes such as 100M; K, M, G and T are powers of 1024.

    Raises: ValueError.
    """
    found = _SIZE.fullmatch(value)
    if found is None:
        raise ValueError("it must be a number of bytes, such as 500K, 100M or 20G")
    return int(found[1]) * _UNITS[found[2]]


def size(value: str) -> None:
    """A number of bytes."""
    parse_size(value)


def day(value: str) -> None:
    """Empty, or a day."""
    if not value:
        return
    try:
        date.fromisoformat(value)
    except ValueError:
        raise ValueError("it must be a day such as 2026-01-31") from None


def bucket(value: str) -> None:
    """Empty, or a bucket of S3."""
    if value and not _BUCKET.fullmatch(value):
        raise ValueError("it has 3 to 63 small letters, digits, dots and hyphens")


def region(value: str) -> None:
    """A region of S3."""
    if not _REGION.fullmatch(value):
        raise ValueError("it is a word such as us-east-1")


def object_prefix(value: str) -> None:
    """Empty, or the beginning of names of objects."""
    if not _PREFIX.fullmatch(value):
        raise ValueError('it is made of letters, digits and "/._-", and ends with "/"')
