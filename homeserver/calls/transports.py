"""The transports of MatrixRTC, as clients are told of them. MSC4143, MSC4195."""

from federation.canonical_json import JsonValue
from homeserver.config import Config


def transports(config: Config) -> list[JsonValue]:
    """The SFUs that the configuration names, the preferred one first."""
    return [
        {"type": "livekit", "livekit_service_url": url}
        for url in config.calls.livekit_urls
    ]
