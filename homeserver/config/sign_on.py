"""The sections about others who say who somebody is: single sign-on."""

import re
from collections.abc import Sequence
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from homeserver.config import checks

_ID: Final = re.compile(r"[a-z0-9][a-z0-9_.~-]{0,99}")
_CLAIM: Final = re.compile(r"[^=]+=.+")
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")

# What becomes of the sessions that began with a log-in which has ended elsewhere.
OnLogout = Literal["nothing", "browsers", "devices"]


def provider_id(value: str) -> None:
    """A name of a provider in addresses of ours."""
    if not _ID.fullmatch(value):
        raise ValueError("it must be of small letters, digits and _ . ~ - only")


def secure_url(value: str) -> None:
    """Empty, or an HTTPS URL; HTTP on this machine only."""
    checks.page_url(value)
    parts = urlsplit(value)
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise ValueError("it must begin with https://")
    if parts.query or parts.fragment:
        raise ValueError("it must have no ? and no #")


def mxc_url(value: str) -> None:
    """Empty, or a mxc:// URI."""
    if value and not re.fullmatch(r"mxc://[^/\s]+/[A-Za-z0-9_-]+", value):
        raise ValueError("it must look like mxc://example.org/abcdef")


def claim_pairs(values: Sequence[str]) -> None:
    """A list of claims and what they must be."""
    for value in values:
        if not _CLAIM.fullmatch(value):
            raise ValueError(f"{value!r} must look like claim=value")


class OidcProvider(Struct, frozen=True, kw_only=True):
    """An OpenID Connect provider that people log in with.

    The section may be there several times. The address that the provider must send
    people back to is PUBLIC_BASE_URL/account/provider/ID/callback, the one for
    back-channel logout PUBLIC_BASE_URL/account/provider/ID/logout.
    """

    id: Annotated[
        str,
        Meta(
            description="Its name in addresses, such as company. Accounts are linked to"
            " it, so it must not be changed later.",
            extra={"check": provider_id},
        ),
    ] = ""
    name: Annotated[
        str, Meta(description='Its name for people, as in "Continue with Company".')
    ] = ""
    brand: Annotated[
        str,
        Meta(
            description="Whose button clients show: apple, facebook, github, gitlab,"
            " google, twitter, or empty."
        ),
    ] = ""
    icon: Annotated[
        str,
        Meta(
            description="The picture on that button, a mxc:// URI. Empty: none.",
            extra={"check": mxc_url},
        ),
    ] = ""
    issuer: Annotated[
        str,
        Meta(
            description="Its issuer, to the letter; its metadata stand below, at"
            " /.well-known/openid-configuration. It may be in your own network.",
            extra={"check": secure_url},
        ),
    ] = ""
    client_id: Annotated[
        str, Meta(description="How it knows this server, as registered there.")
    ] = ""
    client_auth: Annotated[
        Literal["client_secret_basic", "client_secret_post", "private_key_jwt", "none"],
        Meta(description="How this server shows there who it is."),
    ] = "client_secret_basic"
    client_secret: Annotated[
        str, Meta(description="The secret, for the first two of these.")
    ] = ""
    private_key: Annotated[
        str,
        Meta(
            description="The key for private_key_jwt, a PEM file: RSA, or EC with"
            " P-256.",
            extra={"path": "file"},
        ),
    ] = ""
    private_key_id: Annotated[
        str, Meta(description="The name of that key there (kid). Empty: none.")
    ] = ""
    scopes: Annotated[
        tuple[str, ...], Meta(min_length=1, description="What is asked for.")
    ] = ("openid", "profile", "email")
    pkce: Annotated[
        bool,
        Meta(
            description="Whether the code is bound to this server; false for old"
            " providers that refuse it."
        ),
    ] = True
    user_info: Annotated[
        bool,
        Meta(
            description="Whether its userinfo endpoint is asked too, for what the ID"
            " token lacks."
        ),
    ] = False
    localpart: Annotated[
        str,
        Meta(
            description="The name proposed for a new account, made of claims such as"
            ' "{preferred_username}" or "{address.locality}". Empty: none.'
        ),
    ] = "{preferred_username}"
    display_name: Annotated[
        str, Meta(description="A new account's display name, likewise.")
    ] = "{name}"
    email: Annotated[
        str,
        Meta(
            description="Its e-mail address, likewise; it counts when the claim"
            " email_verified is true."
        ),
    ] = "{email}"
    avatar: Annotated[
        str, Meta(description="The address of its picture, likewise.")
    ] = "{picture}"
    required_claims: Annotated[
        tuple[str, ...],
        Meta(
            description="Who may come in, such as"
            ' ["groups=staff", "groups=guests", "hd=example.org"]: each claim that is'
            " named must be, or hold, one of its values. Empty: everybody there.",
            extra={"check": claim_pairs},
        ),
    ] = ()
    sign_up: Annotated[
        bool,
        Meta(
            description="Whether who comes in for the first time may make an account,"
            " also where registration is closed."
        ),
    ] = True
    choose_name: Annotated[
        bool,
        Meta(
            description="Whether they may choose the account's name; false: it is"
            " localpart, and who finds it taken cannot come in."
        ),
    ] = True
    link_by_email: Annotated[
        bool,
        Meta(
            description="Whether an account with the same confirmed e-mail address is"
            " theirs without its password. Only for a provider that you trust as much"
            " as yourself: it could take over any such account."
        ),
    ] = False
    on_logout: Annotated[
        OnLogout,
        Meta(
            description="What ends when the log-in there ends (back-channel logout):"
            " nothing, log-ins in browsers, or devices too."
        ),
    ] = "devices"
    clock_skew_s: Annotated[
        int, Meta(ge=0, le=600, description="How wrong its clock may be.")
    ] = 60


class Choice(Struct, frozen=True):
    """One of the ways to log in elsewhere, as clients are told of it."""

    id: str
    name: str
    icon: str = ""
    brand: str = ""


def choices(providers: Sequence[OidcProvider]) -> tuple[Choice, ...]:
    """The ways to log in elsewhere."""
    return tuple(
        Choice(one.id, one.name or one.id, one.icon, one.brand) for one in providers
    )


def faults(providers: Sequence[OidcProvider]) -> tuple[str, int] | None:
    """What is wrong with a provider, and with which."""
    seen: set[str] = set()
    for number, one in enumerate(providers):
        for key in ("id", "issuer", "client_id"):
            if not getattr(one, key):
                return f"`{key}` is missing", number
        if one.id in seen:
            return f"two providers have the id {one.id!r}", number
        seen.add(one.id)
        if one.client_auth.startswith("client_secret") and not one.client_secret:
            return "`client_secret` is missing", number
        if one.client_auth == "private_key_jwt" and not one.private_key:
            return "`private_key` is missing", number
        if "openid" not in one.scopes:
            return '`scopes` lacks "openid"', number
    return None
