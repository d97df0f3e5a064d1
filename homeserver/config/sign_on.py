"""The sections about others who say who somebody is: single sign-on."""

import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import Annotated, Final, Literal, TypeAlias
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


class _People(Struct, frozen=True, kw_only=True):
    """What the providers of CAS and SAML have in common."""

    id: Annotated[
        str,
        Meta(
            description="Its name in addresses, such as campus. Accounts are linked to"
            " it, so it must not be changed later.",
            extra={"check": provider_id},
        ),
    ] = ""
    name: Annotated[
        str, Meta(description='Its name for people, as in "Continue with Campus".')
    ] = ""
    icon: Annotated[
        str,
        Meta(
            description="The picture on its button, a mxc:// URI. Empty: none.",
            extra={"check": mxc_url},
        ),
    ] = ""
    display_name: Annotated[
        str, Meta(description="A new account's display name, made of attributes.")
    ] = "{displayName}"
    email: Annotated[
        str,
        Meta(description="Its e-mail address, likewise, which counts as confirmed."),
    ] = "{mail}"
    required_attributes: Annotated[
        tuple[str, ...],
        Meta(
            description='Who may come in, such as ["affiliation=staff"]: each attribute'
            " that is named must hold one of its values. Empty: everybody there.",
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
            description="Whether an account with the same e-mail address is theirs"
            " without its password. Only for a provider that you trust as much as"
            " yourself."
        ),
    ] = False


class CasProvider(_People, frozen=True, kw_only=True):
    """A CAS server (protocol 3.0) that people log in with.

    The section may be there several times.
    """

    url: Annotated[
        str,
        Meta(
            description="Where it is, such as https://cas.example.org/cas.",
            extra={"check": secure_url},
        ),
    ] = ""
    localpart: Annotated[
        str,
        Meta(
            description='The name proposed for a new account: "{user}" is the name'
            " there, others are attributes. Empty: none."
        ),
    ] = "{user}"


class SamlProvider(_People, frozen=True, kw_only=True):
    """A SAML 2.0 identity provider that people log in with.

    Needs hearth[saml], and the program xmlsec1. The section may be there several
    times. Our metadata are at PUBLIC_BASE_URL/account/provider/ID/metadata.
    """

    metadata_file: Annotated[
        str,
        Meta(
            description="The provider's metadata, a XML file.", extra={"path": "file"}
        ),
    ] = ""
    localpart: Annotated[
        str,
        Meta(
            description="The name proposed for a new account, made of attributes."
            " Empty: none."
        ),
    ] = "{uid}"
    clock_skew_s: Annotated[
        int, Meta(ge=0, le=600, description="How wrong its clock may be.")
    ] = 60


AnyProvider: TypeAlias = OidcProvider | CasProvider | SamlProvider


class Choice(Struct, frozen=True):
    """One of the ways to log in elsewhere, as clients are told of it."""

    id: str
    name: str
    icon: str = ""
    brand: str = ""


def choices(providers: Iterable[AnyProvider]) -> tuple[Choice, ...]:
    """The ways to log in elsewhere."""
    return tuple(
        Choice(
            one.id,
            one.name or one.id,
            one.icon,
            one.brand if isinstance(one, OidcProvider) else "",
        )
        for one in providers
    )


def faults(
    groups: Mapping[str, Sequence[AnyProvider]],
) -> tuple[str, str, int] | None:
    """What is wrong with a provider, in which section, and with which."""
    seen: set[str] = set()
    for section, providers in groups.items():
        for number, one in enumerate(providers):
            why = _fault(one)
            if one.id in seen:
                why = f"two providers have the id {one.id!r}"
            if why:
                return why, section, number
            seen.add(one.id)
    return None


_NEEDED: Final[Mapping[type, Sequence[str]]] = {
    OidcProvider: ("id", "issuer", "client_id"),
    CasProvider: ("id", "url"),
    SamlProvider: ("id", "metadata_file"),
}


def _fault(one: AnyProvider) -> str:
    for key in _NEEDED[type(one)]:
        if not getattr(one, key):
            return f"`{key}` is missing"
    if isinstance(one, SamlProvider):
        if find_spec("saml2") is None:
            return "it needs `pip install hearth-homeserver[saml]`"
        return "" if shutil.which("xmlsec1") else "it needs the program xmlsec1"
    if isinstance(one, CasProvider):
        return ""
    if one.client_auth.startswith("client_secret") and not one.client_secret:
        return "`client_secret` is missing"
    if one.client_auth == "private_key_jwt" and not one.private_key:
        return "`private_key` is missing"
    return "" if "openid" in one.scopes else '`scopes` lacks "openid"'
