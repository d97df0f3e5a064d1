"""What is told of where this server can be reached.

Spec: client-server-api#well-known-uris; server-server-api#resolving-server-names
"""

from urllib.parse import urlsplit

from federation.canonical_json import JsonObject
from homeserver.config import Config


def client_discovery(config: Config) -> JsonObject:
    """What clients are told, when `public_base_url` is set."""
    return {"m.homeserver": {"base_url": config.public_base_url}}


def delegated_server(config: Config) -> str | None:
    """Where other servers are to go: to the host and port of `public_base_url`.

    None when it is not set, or has no TLS, as other servers speak nothing else.
    """
    url = urlsplit(config.public_base_url)
    if url.scheme != "https" or not url.hostname:
        return None
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    return f"{host}:{url.port or 443}"
