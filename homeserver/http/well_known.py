"""What is told of where this server can be reached.

Spec: client-server-api#well-known-uris; server-server-api#resolving-server-names
"""

from urllib.parse import urlsplit

from federation.canonical_json import JsonObject, JsonValue
from homeserver.config import Config


def client_discovery(config: Config) -> JsonObject:
    """What clients are told, when `public_base_url` is set."""
    told: JsonObject = {"m.homeserver": {"base_url": config.public_base_url}}
    if config.calls.livekit_urls:  # MSC4143
        told["org.matrix.msc4143.rtc_foci"] = [
            {"type": "livekit", "livekit_service_url": url}
            for url in config.calls.livekit_urls
        ]
    clients = config.clients
    encryption: JsonObject = {}  # as Element asks for it
    if not clients.encryption_by_default:
        encryption["default"] = False
    if clients.require_secure_backup:
        encryption["secure_backup_required"] = True
    if encryption:
        told["io.element.e2ee"] = encryption
    if clients.map_style_url:  # MSC3488
        told["m.tile_server"] = {"map_style_url": clients.map_style_url}
    return told


def support(config: Config) -> JsonObject:
    """Whom people turn to; empty when nobody is named."""
    named = config.support
    contacts: list[JsonValue] = []
    for role, matrix_id, email in (
        ("m.role.admin", named.admin_matrix_id, named.admin_email),
        ("m.role.security", named.security_matrix_id, named.security_email),
    ):
        contact: JsonObject = {"role": role}
        if matrix_id:
            contact["matrix_id"] = matrix_id
        if email:
            contact["email_address"] = email
        if len(contact) > 1:
            contacts.append(contact)
    told: JsonObject = {}
    if contacts:
        told["contacts"] = contacts
    if named.page:
        told["support_page"] = named.page
    return told


def policy_server(config: Config) -> JsonObject | None:
    """What rooms put into `m.room.policy`, when a policy server has our name."""
    key = config.policy_servers.public_key
    return {"public_keys": {"ed25519": key.rstrip("=")}} if key else None


def delegated_server(config: Config) -> str | None:
    """Where other servers are to go: to the host and port of `public_base_url`.

    None when it is not set, or has no TLS, as other servers speak nothing else.
    """
    url = urlsplit(config.public_base_url)
    if url.scheme != "https" or not url.hostname:
        return None
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    return f"{host}:{url.port or 443}"
