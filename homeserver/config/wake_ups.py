"""[wake_ups]: how the processes of one server tell each other that there is news."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from homeserver.config import checks


class WakeUps(Struct, frozen=True, kw_only=True):
    """How processes wake each other. Whatever is lost there is found all the same."""

    by: Annotated[
        Literal["postgresql", "nats"],
        Meta(
            description="postgresql needs nothing else; nats takes that work off the"
            " database, and needs hearth-homeserver[nats] to be installed."
        ),
    ] = "postgresql"
    nats_urls: Annotated[
        tuple[str, ...],
        Meta(
            min_length=1,
            description="The servers of one NATS cluster; nats:// or tls://.",
            extra={"check": checks.nats_urls},
        ),
    ] = ("nats://127.0.0.1:4222",)
    nats_user: Annotated[str, Meta(description="The name to log in with.")] = ""
    nats_password: Annotated[str, Meta(description="The password to it.")] = ""
    nats_credentials_file: Annotated[
        str,
        Meta(
            description="Instead of both: a credentials file (JWT and seed).",
            extra={"path": "file"},
        ),
    ] = ""
    nats_ca_file: Annotated[
        str,
        Meta(
            description="The authorities to trust for tls://, a PEM file. Empty: those"
            " of the system.",
            extra={"path": "file"},
        ),
    ] = ""
    nats_tls_certificate: Annotated[
        str,
        Meta(
            description="A certificate to show at tls://, a PEM file.",
            extra={"path": "file"},
        ),
    ] = ""
    nats_tls_key: Annotated[
        str, Meta(description="Its private key, a PEM file.", extra={"path": "file"})
    ] = ""

    def __post_init__(self) -> None:
        """Check what concerns several keys."""
        if bool(self.nats_tls_certificate) != bool(self.nats_tls_key):
            has = bool(self.nats_tls_certificate)
            missing = "nats_tls_key" if has else "nats_tls_certificate"
            raise ValueError(f"`{missing}` is missing: one goes with the other")
        if bool(self.nats_user) != bool(self.nats_password):
            missing = "nats_password" if self.nats_user else "nats_user"
            raise ValueError(f"`{missing}` is missing: one goes with the other")
