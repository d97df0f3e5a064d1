"""The section [policy_servers]: what rooms' policy servers may decide here."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from homeserver.config import checks


class PolicyServers(Struct, frozen=True, kw_only=True):
    """Servers that rooms name to check events, and what is told of one of yours."""

    timeout_s: Annotated[
        float,
        Meta(
            gt=0,
            le=60,
            description="How long a room's policy server may take for one event, in"
            " seconds.",
        ),
    ] = 5.0
    when_unreachable: Annotated[
        Literal["refuse", "accept"],
        Meta(
            description="What happens to events while a room's policy server does not"
            " answer. refuse: your users cannot send, and what others send unchecked is"
            " not shown; accept: as if the room had none."
        ),
    ] = "refuse"
    public_key: Annotated[
        str,
        Meta(
            description="The public key of a policy server that has this server's name,"
            " as unpadded base64: told at /.well-known/matrix/policy_server. Empty:"
            " there is none.",
            extra={"check": checks.ed25519_key},
        ),
    ] = ""
