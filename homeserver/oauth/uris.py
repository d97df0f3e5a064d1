"""What URIs a client may name. A redirect URI is how a client proves who it is.

Spec: client-server-api#redirect-uri-validation
"""

import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

MAX_URI: Final = 2048
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
# No white space, controls, backslashes: browsers and parsers read those differently.
_PLAIN: Final = re.compile(r"[!#-;=?-\[\]_a-z~]+")
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*", re.ASCII)


def split(uri: str) -> SplitResult | None:
    """The parts of a URI; None for what is none, or not plainly one."""
    if len(uri) > MAX_URI or not _PLAIN.fullmatch(uri):
        return None
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError:
        return None
    return parts if _SCHEME.fullmatch(parts.scheme) else None


def _has_user(parts: SplitResult) -> bool:
    return "@" in parts.netloc


def client_host(client_uri: str) -> str | None:
    """The host of a good client URI."""
    parts = split(client_uri)
    if parts is None or parts.scheme != "https" or _has_user(parts):
        return None
    return parts.hostname or None


def is_below(uri: str, host: str) -> bool:
    """Whether it is an https URI of the client's host, or of a subdomain."""
    parts = split(uri)
    if parts is None or parts.scheme != "https" or _has_user(parts):
        return False
    found = parts.hostname or ""
    return found == host or found.endswith(f".{host}")


def is_redirect_uri(uri: str, host: str, *, is_native: bool) -> bool:
    """Whether a client of this host may be sent there."""
    parts = split(uri)
    if parts is None or "#" in uri:
        return False
    if is_below(uri, host):
        return True
    if not is_native:
        return False
    if parts.scheme == "http":
        return (
            parts.hostname in LOOPBACK and parts.port is None and _is_bare_host(parts)
        )
    return _is_private_use(uri, parts, host)


def _is_bare_host(parts: SplitResult) -> bool:
    return parts.netloc in ("localhost", "127.0.0.1", "[::1]")


def _is_private_use(uri: str, parts: SplitResult, host: str) -> bool:
    """A scheme that begins with the host, reversed, and no authority after it."""
    reverse = ".".join(reversed(host.split(".")))
    if "." not in parts.scheme:
        return False
    has_prefix = parts.scheme == reverse or parts.scheme.startswith(f"{reverse}.")
    return has_prefix and not uri[len(parts.scheme) + 1 :].startswith("//")


def is_registered(uri: str, registered: list[str], *, is_native: bool) -> bool:
    """Whether a request may name it: to the letter, but for the port of a loopback."""
    if uri in registered:
        return True
    parts = split(uri)
    if not is_native or parts is None or parts.scheme != "http" or "#" in uri:
        return False
    if parts.hostname not in LOOPBACK or parts.port is None:
        return False
    host = parts.hostname if ":" not in parts.hostname else f"[{parts.hostname}]"
    if parts.netloc != f"{host}:{parts.port}":
        return False
    return parts._replace(netloc=host).geturl() in registered
