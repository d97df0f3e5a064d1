"""What the wire can be told from outside."""

from dataclasses import dataclass

from federation.wire.addresses import IPNetwork


@dataclass(frozen=True, slots=True)
class WireOptions:
    """How to reach other servers. The defaults suit the public internet."""

    # Whether a server must show a certificate that we trust.
    verify_certificates: bool = True
    # A PEM file of authorities to trust beside the system's.
    ca_file: str | None = None
    # Networks outside the public internet that requests may reach.
    allow_addresses: tuple[IPNetwork, ...] = ()
    # Name servers instead of the system's, as `address` or `address:port`.
    dns_servers: tuple[str, ...] = ()
    user_agent: str = "hearth"
    # Requests under way at most, in total and to one server.
    max_requests: int = 500
    max_requests_per_server: int = 16
    # Requests to one server that may wait for their turn; more are refused.
    max_waiting_per_server: int = 200
    # The same for files, which take longer.
    max_streams: int = 100
    max_streams_per_server: int = 8
    # From so many open connections on, one that has answered is closed.
    max_connections: int = 400
    keep_alive_seconds: float = 20
    # For one address: connecting and the TLS handshake.
    connect_seconds: float = 10
    # The ports that server discovery takes for granted; tests listen elsewhere.
    well_known_port: int = 443
    matrix_port: int = 8448
